"""Focus: sweeps, the slide's plane, heights over a pass."""

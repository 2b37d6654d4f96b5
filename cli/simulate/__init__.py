"""Commands for the simulator and the demo."""

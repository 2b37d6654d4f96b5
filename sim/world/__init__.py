"""The world the simulated devices share."""

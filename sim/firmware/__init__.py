"""Firmwares of simulated LED controllers and their ports."""

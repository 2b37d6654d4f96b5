"""Calibration of the LED array from its images."""

"""Synthetic aperture from many LEDs."""

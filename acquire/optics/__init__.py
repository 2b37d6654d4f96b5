"""The forward model of imaging under an LED array."""

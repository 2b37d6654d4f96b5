"""The simulated microscope: smear, optics, camera, stages, turret and LED firmware."""

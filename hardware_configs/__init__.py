"""Hardware files, exposure and LED-geometry tables for known microscopes."""

"""Focus stacking and sharpness."""

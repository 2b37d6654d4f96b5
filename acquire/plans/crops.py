"""Size of the crop around a white cell; a 100x field must show the whole crop."""

CROP_PX = 64
"""Side of a crop in low-power pixels, unless a build asks for another."""

SLACK_UM = 6.0
"""A 100x field shows this much more than a crop, for what stage and slide are off by."""

"""From frames to samples: segmentation, matching, quality, the data set and its builder."""

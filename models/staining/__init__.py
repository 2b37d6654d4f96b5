"""Virtual staining as a training task."""

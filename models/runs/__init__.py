"""A run's folder: configuration, metadata, weights."""

"""Batches from a data set."""

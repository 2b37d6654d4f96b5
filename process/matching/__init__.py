"""Matching of images and passes."""

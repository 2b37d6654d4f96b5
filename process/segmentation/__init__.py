"""Segmentation of cells and nuclei."""

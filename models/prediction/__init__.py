"""Staining with a trained run."""

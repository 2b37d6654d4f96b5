"""The samples of one position."""

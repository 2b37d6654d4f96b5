"""Slide files to begin with; `plsctl init` copies them."""

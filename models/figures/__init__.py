"""Parts of figures."""

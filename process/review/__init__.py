"""Review of a data set in the browser."""

"""The frames of one position: stack, series, checks, exposure."""

"""Commands that make and change data."""

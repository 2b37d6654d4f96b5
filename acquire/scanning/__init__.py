"""One pass from beginning to verdict."""

"""Types of white cells."""

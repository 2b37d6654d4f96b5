"""Work at the bench before a scan."""

"""White cells of a scan: their table, how they are found, what a field shows."""

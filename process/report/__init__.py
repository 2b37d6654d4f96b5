"""Pages that show a scan and a data set."""

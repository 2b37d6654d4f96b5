"""Files: settings, whole files, locations, tables."""

"""What will be taken: slide file, recipes, exposures, positions."""

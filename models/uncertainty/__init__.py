"""How far predictions may be off."""

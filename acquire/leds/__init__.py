"""LED arrays: geometry, protocol, drivers."""

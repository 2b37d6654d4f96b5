"""The simulated blood smear."""

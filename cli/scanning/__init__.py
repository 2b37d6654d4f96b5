"""Commands at the microscope."""

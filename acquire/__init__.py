"""From light to disk: LED geometry and drivers, the microscope, plan, engine and scan store."""

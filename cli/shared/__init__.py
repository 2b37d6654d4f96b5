"""What several commands use: output, options, roles."""

"""Whether array, camera and focus are what a pass believes them to be, from its own frames."""

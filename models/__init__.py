"""From samples to predictions: networks, losses, training, evaluation, virtual staining."""

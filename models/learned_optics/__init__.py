"""Optics that are learned with the network behind them."""

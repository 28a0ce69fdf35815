"""Continual-learning metrics: pure functions over an accuracy matrix."""

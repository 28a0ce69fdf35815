"""Penalties and bounds for learning tasks in sequence: one file each."""

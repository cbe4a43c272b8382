"""Trained policies in NumPy and the files they travel in. No JAX."""

"""Experiments: many cells, each a symbol, a fold and settings, trained once and never again."""

"""Measurements of speed and of learning; every module runs as ``python -m benchmarks.<name>``, on CPU and GPU alike."""

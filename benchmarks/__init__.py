"""Benchmarks of the engine, run from a checkout with ``python -m benchmarks``."""

"""PCSR super-resolution: compute goes where the picture needs it."""

__version__ = "0.1.0"

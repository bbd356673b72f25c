"""PCSR networks: their configuration, layers and weights, and the files that hold them."""

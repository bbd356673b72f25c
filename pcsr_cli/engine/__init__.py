"""What computes a result: tiles, features, samplers, and canvases that take the pixels."""

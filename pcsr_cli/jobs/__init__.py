"""The work of `pcsr upscale` and `pcsr plan`."""

"""The page people open: pictures before and after, where the compute went, and what every cut would cost.

One HTML file that asks for nothing. Its figures are a sweep's; ``report`` is another thing: what one upscale did."""

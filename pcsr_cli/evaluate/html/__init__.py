"""The HTML page of `pcsr report`."""

"""The HTML page of `pcsr report` and `pcsr compare`."""

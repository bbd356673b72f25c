"""The work of `pcsr train`."""

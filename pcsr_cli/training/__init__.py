"""Training of PCSR networks, as in `pcsr train`."""

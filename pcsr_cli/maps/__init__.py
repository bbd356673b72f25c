"""Where the compute went, as pictures and as data: overlay, mask, difficulty, p_heavy."""

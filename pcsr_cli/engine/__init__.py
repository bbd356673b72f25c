"""An LR tensor in, HR rows out, in order."""

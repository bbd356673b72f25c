"""Convert image files to arrays and back."""

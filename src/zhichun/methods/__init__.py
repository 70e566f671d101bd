"""Training tricks, one for each file."""

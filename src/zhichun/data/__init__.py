"""Data: readers, one for each source, and steps, one for each file."""

"""Dynamic batching: requests split into slices, joined into batches, with a cache of scores."""

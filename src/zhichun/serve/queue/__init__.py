"""The queue before the model: requests cut into slices, joined into batches, with a cache of scores."""

"""Attention over packed batches, and dropout that is cheap on a CPU."""

"""Engines: the contract of what scores batches, and torch, which scores a run."""

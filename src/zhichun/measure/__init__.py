"""Evaluation: metrics of a model on a dataset, and the report of a run."""

"""Evaluation: metrics of a model on a dataset, two systems beside each other, and pages of a run and of a dataset.

The pages are made of a folder's files alone; they need neither torch nor a plotting library, and are the same bytes for
the same files.
"""

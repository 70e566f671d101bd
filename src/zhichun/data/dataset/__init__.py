"""The dataset folder: its tables, memory-mapped stores, folds, and out-of-fold predictions."""

"""Data: readers of tables, the steps of `zhichun prepare`, the dataset folder and the sample shop."""

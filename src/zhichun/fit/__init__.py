"""Training: recipes, the loop, checkpoints, run folders, pre-training, folds and soft labels."""

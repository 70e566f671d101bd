"""Scoring with a trained model: runs, exports and ensembles; imports nothing of training."""

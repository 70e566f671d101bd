"""Scoring: texts to probabilities; imports nothing of training."""

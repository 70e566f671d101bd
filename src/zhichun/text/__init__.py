"""Texts to ids, without torch."""

"""Texts: cleaning, folding, tokens, trigrams, vocabularies, and pairs as arrays; without torch."""

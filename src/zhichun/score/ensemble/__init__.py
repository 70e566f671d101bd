"""Ensembles: which models belong together, what each weighs, and what they gain together."""

"""Ensembles: which models belong together, what each weighs, and what they are worth together."""

from zhichun.ensemble.make import make_ensemble

__all__ = ["make_ensemble"]

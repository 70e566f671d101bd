"""The recipe that needs nothing: a tiny encoder from random weights, for a first run, for tests, for a small shop."""

from zhichun.nn.encoder import TinyEncoder
from zhichun.nn.relevance_model import ModelSettings
from zhichun.recipe import Recipe
from zhichun.train.settings import TrainSettings


def tiny() -> Recipe:
    """Four layers of 128 from nothing, trained for some minutes on two cores."""
    return Recipe(
        model=ModelSettings(tiny=TinyEncoder(), max_length=64, trigrams=32, brand=32, color=32),
        train=TrainSettings(epochs=6, learning_rate=5e-4, precision="fp32"),
    )

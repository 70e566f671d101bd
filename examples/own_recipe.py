"""Recipes in a file of one's own: a function that returns a `Recipe`; its name is what comes after the colon.

Train one with ``zhichun train examples/own_recipe.py:small --data DATA --out RUN``; ``zhichun recipe
examples/own_recipe.py:titles_only`` shows its settings.
"""

from dataclasses import replace

from zhichun.fit.recipe import Recipe
from zhichun.fit.recipes.tiny import tiny
from zhichun.fit.train_settings import TrainSettings
from zhichun.model.encoder_settings import TinyEncoder
from zhichun.model.relevance_model import ModelSettings


def small() -> Recipe:
    """Two layers of 64 that read titles, brands and colors, chosen by macro-F1."""
    return Recipe(
        model=ModelSettings(
            tiny=TinyEncoder(layers=2, hidden=64, heads=2, matching_layers=1),
            max_length=32,
            fields=("title", "brand", "color"),
            trigrams=16,
            brand=16,
            color=16,
        ),
        train=TrainSettings(epochs=4, learning_rate=1e-3, precision="fp32", metric="macro_f1"),
    )


def titles_only() -> Recipe:
    """Leave the recipe `tiny` nothing but query and title, to see what the other fields and parts add."""
    recipe = tiny()
    model = replace(recipe.model, fields=("title",), trigrams=None, country=None, brand=None, color=None)
    return replace(recipe, model=model)

"""The learning rate and the epochs that fit an encoder's size and the number of pairs.

The smaller the encoder, the larger the rate that it takes: ``1e-5 · (1024 / hidden)²``, which is the paper's 1e-5 for
the large encoders of 1,024, 1.8e-5 for a base one of 768, 7e-5 for MiniLM's 384 and 6e-4 for `tiny`'s 128. Few pairs
are read more often: as many epochs as make 400 steps, but no fewer than 2 and no more than 8.
"""

import math
from dataclasses import replace
from typing import Final

import numpy as np

from zhichun.core import schema
from zhichun.core.arrays import Int64
from zhichun.data.dataset.dataset import Dataset
from zhichun.fit.recipe import Recipe
from zhichun.fit.train_settings import TrainSettings
from zhichun.model.encoder_settings import EncoderSettings, hidden_size

STEPS: Final = 400
FEWEST, MOST = 2, 8
# Of the sum of all steps' rates that `auto` would have: below, a run is said to be too short.
TOO_SHORT: Final = 0.25


def with_pace(recipe: Recipe, dataset: Dataset) -> Recipe:
    """Replace `auto` in a recipe's learning rate and epochs by numbers."""
    given = recipe.train
    if "auto" not in (given.learning_rate, given.epochs):
        return recipe
    learned = (dataset.column(schema.SPLIT) == schema.TRAIN) & (dataset.column(schema.WEIGHT) > 0)
    epochs, rate = pace_of(recipe.model, pairs_read(given, dataset, np.flatnonzero(learned)), given.batch_size)
    epochs = epochs if given.epochs == "auto" else given.epochs
    rate = rate if given.learning_rate == "auto" else given.learning_rate
    return replace(recipe, train=replace(given, epochs=epochs, learning_rate=rate))


def pairs_read(settings: TrainSettings, dataset: Dataset, rows: Int64) -> int:
    """Return how many of some pairs an epoch reads: of a long list a part."""
    if settings.lists is None:
        return len(rows)
    sizes_L = np.unique(dataset.list_row[rows], return_counts=True)[1]
    return int(np.minimum(sizes_L, min(settings.lists.most_candidates, settings.batch_size)).sum())


def pace_of(model: EncoderSettings, pairs: int, batch_size: int) -> tuple[int, float]:
    """Return the epochs and the learning rate that fit an encoder and a number of pairs."""
    epochs = math.ceil(STEPS / max(1, math.ceil(pairs / batch_size)))
    return min(MOST, max(FEWEST, epochs)), float(f"{1e-5 * (1024 / hidden_size(model)) ** 2:.1e}")


def too_short(settings: TrainSettings, model: EncoderSettings, pairs: int) -> str:
    """Say why a run is too short to have learned, with what to change; empty where it is not."""
    epochs, rate = settings.numbers()
    fitting_epochs, fitting_rate = pace_of(model, pairs, settings.batch_size)
    if epochs * rate >= TOO_SHORT * fitting_epochs * fitting_rate:
        return ""
    return (
        f"{epochs} epochs of {pairs:,} pairs at a learning rate of {rate:g} are short: an encoder of this size learns "
        f"little in them. What fits is --set train.learning_rate={fitting_rate:g} --set train.epochs={fitting_epochs}."
    )

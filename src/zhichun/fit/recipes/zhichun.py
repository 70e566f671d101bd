"""The recommended recipe.

Provisional: which parts are in it was decided by one seed on the 135 queries of Chorus, in `experiments/LOG.md`; the
selection on inner folds by `benchmarks/quality_lists.py` has still to confirm it.
"""

from zhichun.fit.recipe import Recipe
from zhichun.fit.train_settings import TrainSettings
from zhichun.model.relevance_model import ModelSettings
from zhichun.objective import FineTuningSettings
from zhichun.objective.losses import Poly1
from zhichun.objective.methods import EMA


def best() -> Recipe:
    """Classify and rank, with a rate and epochs that fit the encoder's size and the number of pairs."""
    return Recipe(
        model=ModelSettings(encoder="intfloat/multilingual-e5-small", max_length=128),
        objective=FineTuningSettings(loss=Poly1(), ema=EMA()),
        train=TrainSettings(epochs="auto", learning_rate="auto"),
    )

"""Distillation: a small encoder that learns from what larger ones say of the same pairs.

Soft labels mixed with the hard ones, after Hinton et al., 2015. The student is MiniLM, itself distilled from XLM-R
large (Wang et al., 2021): 6 layers of 384 that read the same pieces, small enough for a CPU. Its learning rate is
higher than the paper's for the large encoder, as is usual for small ones.
"""

from dataclasses import replace

from zhichun.fit.recipe import Recipe
from zhichun.fit.recipes import kdd2022
from zhichun.fit.train_settings import SoftLabels, TrainSettings
from zhichun.objective import FineTuningSettings
from zhichun.objective.losses import SquaredError
from zhichun.objective.methods import EMA

MINILM = "nreimers/mMiniLMv2-L6-H384-distilled-from-XLMR-Large"
TEACHER = "teacher"
POOL = "pool.parquet"


def student() -> Recipe:
    """Task 2 by MiniLM; `train.soft_labels.predictions` names the teacher's runs, the folder `teacher` if not set."""
    train = TrainSettings(learning_rate=5e-5, soft_labels=SoftLabels(predictions=(TEACHER,), share=0.7))
    recipe = kdd2022.baseline()
    return replace(recipe, model=replace(recipe.model, encoder=MINILM), train=train)


def pooled() -> Recipe:
    """`distil:student` on more than was judged: with the pairs that the teacher labelled, a table of `zhichun pool`."""
    recipe = student()
    return replace(recipe, train=replace(recipe.train, pool=POOL))


def one_score() -> Recipe:
    """Regress the expected gain from the text alone: the student that other engines take (`zhichun export --for`).

    It learns the gains of judged pairs, and the teacher's expected gains of a pool. Rate and epochs fit the encoder,
    which is best the teacher's own: `--set model.encoder=…`.
    """
    recipe = pooled()
    text_only = replace(recipe.model, trigrams=None, trigram_start="random", country=None, brand=None, color=None)
    train = replace(recipe.train, soft_labels=None, metric="ndcg", epochs="auto", learning_rate="auto")
    objective = FineTuningSettings(loss=SquaredError(), ema=EMA())
    return Recipe(task="gain", model=text_only, objective=objective, train=train)

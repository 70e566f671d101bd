"""Distillation: a small encoder that learns from what larger ones say of the same pairs.

Soft labels mixed with the hard ones, after Hinton et al., 2015. The student is MiniLM, itself distilled from XLM-R
large (Wang et al., 2021): 6 layers of 384 that read the same pieces, small enough for a CPU. Its learning rate is
higher than the paper's for the large encoder, as is usual for small ones.
"""

from dataclasses import replace

from zhichun.fit.recipe import Recipe
from zhichun.fit.recipes import kdd2022
from zhichun.fit.soft_labels import SoftLabels
from zhichun.fit.train_settings import TrainSettings

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

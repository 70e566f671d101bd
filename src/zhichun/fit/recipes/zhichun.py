"""The recommended recipes: ``zhichun:best``, and ``zhichun:fast`` for a catalogue that is known before the query.

``zhichun:fast`` reads query and product apart, so that what depends on the product alone can be kept. Four commands
make it: the encoder reads the catalogue as a whole (``zhichun:fast:mlm``), then learns to bring a query and a product
together in the split form (``zhichun:fast:pretrain``), then learns the judgements with the soft labels of a whole
model, its teacher (docs/catalogue.md).

Provisional: which parts are in it was decided by one seed on the 135 queries of Chorus, in `experiments/LOG.md`; the
selection on inner folds by `benchmarks/quality_lists.py` has still to confirm it.
"""

from dataclasses import replace

from zhichun.fit.recipe import PretrainingRecipe, Recipe
from zhichun.fit.recipes import distil
from zhichun.fit.soft_labels import SoftLabels
from zhichun.fit.train_settings import PretrainSettings, TrainSettings
from zhichun.model.encoder_settings import EncoderSettings
from zhichun.model.interaction import Split
from zhichun.model.relevance_model import ModelSettings
from zhichun.objective import FineTuningSettings, PretrainingSettings
from zhichun.objective.losses import Poly1
from zhichun.objective.methods import EMA
from zhichun.objective.pretext import Product2Query

READ = "fast-mlm"
WARM = "fast-pretrain"
PRETRAINING = PretrainSettings(epochs=3, batch_size=128, micro_batch_size=32, learning_rate=5e-5, warmup=0.03)


def best() -> Recipe:
    """Classify and rank, with a rate and epochs that fit the encoder's size and the number of pairs."""
    return Recipe(
        model=ModelSettings(encoder="intfloat/multilingual-e5-small", max_length=128),
        objective=FineTuningSettings(loss=Poly1(), ema=EMA()),
        train=TrainSettings(epochs="auto", learning_rate="auto"),
    )


def fast_mlm() -> PretrainingRecipe:
    """Read the catalogue before the split: a masked language model of the whole encoder."""
    return PretrainingRecipe(model=EncoderSettings(encoder=distil.MINILM), train=PRETRAINING)


def fast_pretrain() -> PretrainingRecipe:
    """Tell title spans of a product from those of others, in the split form; from the run folder `fast-mlm`."""
    objective = PretrainingSettings(mlm=None, product2query=Product2Query(weight=1.0))
    train = replace(PRETRAINING, metric="product2query.loss")
    return PretrainingRecipe(model=EncoderSettings(encoder=READ, interaction=Split()), objective=objective, train=train)


def fast() -> Recipe:
    """Classify in the split form, from `fast-pretrain`, with the soft labels of the run folder `teacher`."""
    recipe, taught = best(), SoftLabels(predictions=(distil.TEACHER,), share=0.7)
    model = replace(recipe.model, encoder=WARM, max_length=256, interaction=Split())
    return replace(recipe, model=model, train=replace(recipe.train, soft_labels=taught))

"""The recommended recipes: ``zhichun:best``, and ``zhichun:fast`` for a catalogue that is known before the query.

``zhichun:fast`` reads query and product apart, so that what depends on the product alone can be kept. Four commands
make it: the encoder reads the catalogue as a whole (``zhichun:fast:mlm``), then learns to bring a query and a product
together in the split form (``zhichun:fast:pretrain``), then learns the judgements with the soft labels of a whole
model, its teacher (docs/catalogue.md).

What its parts gain, screened with one seed on half of Chorus (all-MiniLM-L6-v2, 48 ranked queries; experiments/LOG.md,
2026-11-26), nDCG@10 and micro-F1 minus plain training with all side features, 95 %:

Poly-1, EMA, raters' shares   +0.014 (-0.030 to +0.063), +0.039 (-0.005 to +0.090)
the encoder alone             +0.025 (-0.015 to +0.066), +0.029 (-0.014 to +0.081): trigrams and ids are left out
rate and epochs               1e-5, the paper's, undertrains a small encoder: `zhichun.fit.train`

On all of Chorus (135 queries, five folds, three seeds: experiments/LOG.md, 2026-11-27) this model, at a fixed rate and
epochs, has nDCG@10 0.806 and micro-F1 0.750, and **with ``zhichun:fast:pretrain`` and ``model.interaction=Full`` before
it 0.859 and 0.800**; sentence-transformers at its best of six tries 0.825 and 0.722. A second stage over texts and the
encoder's own vectors (`zhichun stack --similarity ENCODER`), without any fine-tuning, has 0.894 and 0.771, beside the
pre-trained model (`--beside RUN`) 0.889 and 0.812 (`benchmarks/results/quality_lists_chorus.json`). Do both; on inner
folds a model that was not pre-trained adds nothing beside it.

Plain training with trigrams, country, brand and color has 0.828, 0.769 and macro-F1 0.500 on these folds, this model
0.440 (+0.060, +0.009 to +0.098). Inner folds, with half as many
queries, found the two level (the sum of nDCG@10 and micro-F1 1.649 and 1.652), so this recipe stays the text's alone,
which every engine takes. Where there are as many judgements as on Chorus, measure `kdd2022:baseline` beside it.

Left out of the paper's parts: FGM, R-Drop and mixup (no gain measured, 2.3 times the cost:
`benchmarks/results/quality_esci_whole_recipe.md`), and lists with LambdaLoss, whose steps of one list were 0.08 worse.

The teacher of ``zhichun:fast`` harms where it has seen few queries (docs/catalogue.md).

Provisional: what its parts gain are screenings; lists and the list head have no three seeds yet.
"""

from dataclasses import replace

from zhichun.fit.recipe import PretrainingRecipe, Recipe
from zhichun.fit.recipes import distil
from zhichun.fit.train_settings import PretrainSettings, SoftLabels, TrainSettings
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
        model=ModelSettings(
            encoder="intfloat/multilingual-e5-small",
            max_length=128,
            trigrams=None,
            country=None,
            brand=None,
            color=None,
        ),
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

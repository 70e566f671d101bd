"""Recipes that need nothing: a tiny encoder from random weights, for a first run, for tests, for a small shop."""

from zhichun.fit.recipe import PretrainingRecipe, Recipe
from zhichun.fit.train_settings import PretrainSettings, TrainSettings
from zhichun.model.encoder_settings import EncoderSettings, TinyEncoder
from zhichun.model.relevance_model import ModelSettings
from zhichun.objective import PretrainingSettings
from zhichun.objective.pretext import MLM, Contrastive, Product2Brand, Product2Color, Product2Query

LENGTH, ID_SIZE = 64, 32


def tiny() -> Recipe:
    """Four layers of 128 from nothing, trained for some minutes on two cores."""
    return Recipe(
        model=ModelSettings(tiny=TinyEncoder(), max_length=LENGTH, trigrams=32, brand=ID_SIZE, color=ID_SIZE),
        train=TrainSettings(epochs=6, learning_rate=5e-4, precision="fp32"),
    )


def pretrain() -> PretrainingRecipe:
    """All pretext tasks on the catalogue with the same untrained encoder; it has no dropout, so words repeat."""
    return PretrainingRecipe(
        model=EncoderSettings(tiny=TinyEncoder(), max_length=LENGTH),
        objective=PretrainingSettings(
            mlm=MLM(weight=1.0),
            product2query=Product2Query(weight=5.0, draws=1),
            product2brand=Product2Brand(weight=0.15, size=ID_SIZE),
            product2color=Product2Color(weight=0.15, size=ID_SIZE),
            contrastive=Contrastive(weight=1.0, repetition=0.32, queue=80),
        ),
        train=PretrainSettings(
            epochs=10, batch_size=32, micro_batch_size=32, learning_rate=5e-4, precision="fp32", held_out=0.05
        ),
    )

"""The paper's recipes with plain cross-entropy or squared error: the ground that every method is measured on.

Values as written in the paper, 4.1: batch 32, learning rate 1e-5, warm-up 10 %, clip 1, 5 epochs; 256 tokens.
"""

from zhichun.losses import SquaredError
from zhichun.nn.relevance_model import ModelSettings
from zhichun.objectives import FineTuningSettings
from zhichun.recipe import Recipe
from zhichun.train.settings import TrainSettings

INFOXLM = "microsoft/infoxlm-large"


def task1() -> Recipe:
    """Rank: regress the gain."""
    return Recipe(
        task="gain",
        model=ModelSettings(encoder=INFOXLM),
        objective=FineTuningSettings(loss=SquaredError()),
        train=TrainSettings(metric="ndcg"),
    )


def task2() -> Recipe:
    """Classify into Exact, Substitute, Complement and Irrelevant."""
    return Recipe(model=ModelSettings(encoder=INFOXLM))


def task3() -> Recipe:
    """Tell substitutes from all others."""
    return Recipe(task="substitute", model=ModelSettings(encoder=INFOXLM))

"""Pairs in, logits out: the one way in which a torch model scores, in training and after.

Legend: ``P`` pairs, ``C`` outputs.
"""

from collections.abc import Callable

from zhichun.core.tasks import Floats
from zhichun.model.relevance_model import RelevanceModel
from zhichun.score.engines.engine import predict_with
from zhichun.score.engines.torch_engine import TorchEngine, to_tensors
from zhichun.score.token_batches import Rows
from zhichun.text.pairs import Pairs

__all__ = ["predict", "to_tensors"]


def predict(
    model: RelevanceModel,
    pairs: Pairs,
    rows: Rows,
    *,
    budget: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Floats:
    """Score pairs in batches of like length.

    Parameters
    ----------
    model
        The network; put into evaluation mode and back.
    pairs
        All pairs.
    rows
        Which of them, ``[P]``.
    budget
        Tokens of a padded batch at most; what suits the device if not given.
    progress
        Called with the number of pairs that each batch adds.

    Returns
    -------
    numpy.ndarray
        Logits in float32, ``[P, C]``, in the order of ``rows``.
    """
    was_training = model.training
    model.eval()
    engine = TorchEngine.of(model) if budget is None else TorchEngine(model, tokens_per_batch=budget)
    logits_PC = predict_with(engine, pairs, rows, progress=progress)
    model.train(was_training)
    return logits_PC

"""Pairs in, logits out: the one way in which a torch model scores, in training and after.

Legend: ``P`` pairs, ``C`` outputs.
"""

from collections.abc import Callable

import numpy as np
import torch

from zhichun.nn.relevance_model import RelevanceModel
from zhichun.scoring.batches import Rows, length_sorted
from zhichun.tasks import Floats
from zhichun.text.pairs import Arrays, Pairs

TOKENS_PER_BATCH = 4096


def to_tensors(arrays: Arrays, device: torch.device) -> dict[str, torch.Tensor]:
    """Move a batch's arrays to a device."""
    return {name: torch.from_numpy(array).to(device, non_blocking=True) for name, array in arrays.items()}


@torch.inference_mode()
def predict(
    model: RelevanceModel,
    pairs: Pairs,
    rows: Rows,
    *,
    budget: int = TOKENS_PER_BATCH,
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
        Tokens of a padded batch at most.
    progress
        Called with the number of pairs that each batch adds.

    Returns
    -------
    numpy.ndarray
        Logits in float32, ``[P, C]``, in the order of ``rows``.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    logits_PC: Floats = np.zeros((len(rows), model.outputs), np.float32)
    for places in length_sorted(np.arange(len(rows)), pairs.lengths[rows], budget):
        logits_PC[places] = model(to_tensors(pairs.collate(rows[places]), device)).cpu().numpy()
        if progress:
            progress(len(places))
    model.train(was_training)
    return logits_PC

"""Base of the ranking losses: what a pair's score is, and which lists count.

Equation   ``weight · Σ_L w_L loss_L / W`` added to the loss of the pairs; ``w_L`` is the mean weight of a list's pairs,
           0 where all have one gain, and ``W`` their sum over the step. A pair's score is ``s = log(g / (1 - g))`` of
           its predicted gain ``g``: of a regressor its logit, of a classifier by ``g = p_E + 0.1 p_S + 0.01 p_C`` (or
           the other ``gains``, which are those of its targets too); of two classes the difference of the logits
Reference  our own; Cao et al., 2007, *Learning to Rank: From Pairwise Approach to Listwise Approach*, for lists
Our number no gain measured by one loss for all: see their cards
Cost       none beside the forward pass; a number for each two pairs of a list
Traps      needs `train.lists`, or there are no lists. Soft targets (`label_shares`, `train.soft_labels`) are ranked by
           their expected gain: two pairs that differ a little are a pair to order as well. AdamW is invariant to the
           scale of the whole loss, not to the weight between its parts. A model that is trained with the gains
           `official-script` still scores, and so ranks, by `esci`

Legend: ``B`` pairs of a batch, list after list, ``L`` lists, ``M`` pairs of the longest list, ``C`` outputs; ``K``
dropout samples of one pair.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from zhichun.core.schema import LABELS
from zhichun.core.settings import require_range
from zhichun.core.tasks import gain_vector


@dataclass(frozen=True, kw_only=True)
class RankingLoss(ABC):
    """A loss of each list: one more kind of ``objective.ranking``.

    Parameters
    ----------
    weight
        Weight in the objective, beside the loss of the pairs, which has 1.
    gains
        Gains of the labels, as the evaluation names them: `esci`, or `official-script`, which swaps S and C.
    """

    weight: float = 1.0
    gains: Literal["esci", "official-script"] = "esci"

    def __post_init__(self) -> None:
        require_range(self, "weight", above=0, remedy="Switch it off with objective.ranking=null.")

    def __call__(self, logits_BC: Tensor, gain_B: Tensor, list_B: Tensor, /) -> Tensor:
        """Measure the loss of each list.

        Parameters
        ----------
        logits_BC
            Logits, ``[B, C]``, or ``[K, B, C]`` where a head drew several dropout masks: the loss of a list is then the
            mean over its samples.
        gain_B
            Gains of the targets.
        list_B
            List of each pair, in order: 0, 0, 1, …

        Returns
        -------
        Tensor
            ``[L]``, float32; 0 where all pairs have one gain.
        """
        counts_L = torch.bincount(list_B)
        place_B = torch.arange(len(list_B), device=list_B.device) - (counts_L.cumsum(0) - counts_L)[list_B]
        shape = (len(counts_L), int(counts_L.max()))

        def by_list(values_B: Tensor) -> Tensor:
            return values_B.new_zeros(shape).index_put((list_B, place_B), values_B)

        gain_LM, mask_LM = by_list(gain_B.float()), by_list(torch.ones_like(list_B)).bool()
        scores = log_odds(logits_BC, self.gains)
        found = [self.of_lists(by_list(s_B), gain_LM, mask_LM) for s_B in (scores if scores.ndim == 2 else [scores])]
        return torch.stack(found).mean(dim=0) * better(gain_LM, mask_LM).any(dim=(1, 2))

    @abstractmethod
    def of_lists(self, score_LM: Tensor, gain_LM: Tensor, mask_LM: Tensor) -> Tensor:
        """Measure the loss of padded lists, ``[L]``; one with a single gain is not counted, whatever it gives."""


def log_odds(logits_BC: Tensor, preset: str = "esci") -> Tensor:
    """Return ``log(g / (1 - g))`` of the predicted gain, ``[B]``, float32: the order is that of the gain."""
    logits_BC = logits_BC.float()
    if logits_BC.shape[-1] == 1:
        return logits_BC[..., 0]
    gains = gain_vector(preset) if logits_BC.shape[-1] == len(LABELS) else (0.0, 1.0)
    gain_C = torch.as_tensor(gains, dtype=torch.float32, device=logits_BC.device)
    return (logits_BC + gain_C.log()).logsumexp(dim=-1) - (logits_BC + (1 - gain_C).log()).logsumexp(dim=-1)


def better(gain_LM: Tensor, mask_LM: Tensor) -> Tensor:
    """Mark where the first of two pairs of a list has the higher gain, ``[L, M, M]``."""
    return (gain_LM[:, :, None] > gain_LM[:, None, :]) & mask_LM[:, :, None] & mask_LM[:, None, :]


def mean_where(values_LMM: Tensor, chosen_LMM: Tensor) -> Tensor:
    """Take the mean of what is chosen of each list, ``[L]``; 0 where nothing is."""
    return torch.where(chosen_LMM, values_LMM, 0).sum(dim=(1, 2)) / chosen_LMM.sum(dim=(1, 2)).clamp(min=1)


def differences(values_LM: Tensor) -> Tensor:
    """Subtract the second of two pairs from the first, ``[L, M, M]``."""
    return values_LM[:, :, None] - values_LM[:, None, :]

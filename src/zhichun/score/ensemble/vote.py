"""Labels of an ensemble without asking every member: who could no longer change the answer is not asked.

After some members, let ``S_c`` be the weighted sum of a class's probabilities and ``R`` the weight of those that were
not asked yet. Each of these adds between 0 and its weight to a class; so the class that leads stays ahead where it
leads by more than ``R``. The labels are those that all members together give. Scores and probabilities are not known
then: there is no such bound for them, as every member moves them.

Legend: ``P`` pairs, ``C`` classes, ``M`` members.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zhichun.core.tasks import Floats
from zhichun.score.ensemble.average import Doubles, add_vote, mean_of
from zhichun.score.token_batches import Rows

# A lead must exceed the bound by more than a score may differ in another batch, and than float32 rounds off.
SLACK = 1e-4
Voter = Callable[[Rows], Floats]


@dataclass(frozen=True)
class Vote:
    """How a vote ended.

    Parameters
    ----------
    index_P
        Each pair's class.
    asked_M
        How many pairs each member was asked about.
    """

    index_P: npt.NDArray[np.int64]
    asked_M: tuple[int, ...]


def vote(voters: Sequence[Voter], weights: Sequence[float], pairs: int, classes: int) -> Vote:
    """Ask members in order, each about the pairs that are not decided yet.

    Parameters
    ----------
    voters
        Called with rows, ``[p]``, for the probabilities of their classes, ``[p, C]``.
    weights
        Of the voters; those who weigh most come best first.
    pairs, classes
        How many there are.
    """
    total_PC: Doubles = np.zeros((pairs, classes))
    open_P, asked, whole = np.arange(pairs), [], sum(weights)
    for place, (voter, weight) in enumerate(zip(voters, weights, strict=True), start=1):
        asked.append(len(open_P))
        if len(open_P):
            add_vote(total_PC, open_P, voter(open_P), weight)
            open_P = open_P[~is_decided(total_PC[open_P] / whole, sum(weights[place:]) / whole)]
    return Vote(mean_of(total_PC, weights).argmax(axis=1), tuple(asked))


def is_decided(total_PC: Doubles, left: float) -> npt.NDArray[np.bool_]:
    """Tell of each pair whether its leading class stays ahead, ``[P]``, where the weight ``left`` is to come of 1."""
    ordered_PC = np.sort(total_PC, axis=1)
    decided_P: npt.NDArray[np.bool_] = ordered_PC[:, -1] - ordered_PC[:, -2] > left + SLACK
    return decided_P

"""How much each member counts: alike, or as fits pairs that no member was trained on.

Legend: ``P`` pairs, ``M`` members.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
STEPS = 10_000
NEAR = 1e-9
LEAST = 1e-3  # a member that would weigh less is left out: it costs as much as the others
_TINY = 1e-12


def equal_weights(is_classifier: Sequence[bool]) -> Doubles:
    """Let all of a kind count alike, and where there are both kinds, both kinds alike, as the paper does (4.1)."""
    kinds_M = np.asarray(is_classifier)
    per_kind = [kinds_M.sum(), (~kinds_M).sum()]
    weights_M = 1 / np.where(kinds_M, per_kind[0], per_kind[1])
    return np.asarray(weights_M / weights_M.sum(), np.float64)


def likelihood_weights(truth_PM: Doubles) -> Doubles:
    """Find the weights under which the mean probability of what is true is likeliest.

    The likelihood of a mixture with fixed parts is concave in its shares, so that the steps of Dempster, Laird and
    Rubin (1977), which never leave the simplex and never make it worse, go to the best from equal weights.

    Parameters
    ----------
    truth_PM
        What each member gives the true class of each pair.

    Returns
    -------
    numpy.ndarray
        Weights that add up to 1, ``[M]``; 0 of members that would hardly count.
    """
    given_PM = np.maximum(truth_PM, _TINY)
    weights_M = np.full(given_PM.shape[1], 1 / given_PM.shape[1])
    for _ in range(STEPS):
        shares_PM = given_PM * weights_M
        after_M = (shares_PM / shares_PM.sum(axis=1, keepdims=True)).mean(axis=0)
        moved, weights_M = np.abs(after_M - weights_M).max(), after_M
        if moved < NEAR:
            break
    return _without_least(weights_M)


def gain_weights(gain_PM: Doubles, gain_P: Doubles) -> Doubles:
    """Find the weights under which the mean gain is nearest to the judged one, by its square.

    The mean of gains is what products are best ranked by, and the squared error is least where a gain is that mean. A
    convex problem, solved by projected gradients from equal weights.

    Parameters
    ----------
    gain_PM
        What each member gives each pair.
    gain_P
        What the judgements give.

    Returns
    -------
    numpy.ndarray
        Weights that add up to 1, ``[M]``; 0 of members that would hardly count.
    """
    gram_MM, aim_M = gain_PM.T @ gain_PM, gain_PM.T @ gain_P
    step = 1 / max(float(np.linalg.eigvalsh(gram_MM)[-1]), _TINY)
    weights_M = np.full(len(aim_M), 1 / len(aim_M))
    for _ in range(STEPS):
        after_M = onto_simplex(weights_M - step * (gram_MM @ weights_M - aim_M))
        moved, weights_M = np.abs(after_M - weights_M).max(), after_M
        if moved < NEAR:
            break
    return _without_least(weights_M)


def onto_simplex(given_M: Doubles) -> Doubles:
    """Give the nearest weights that are not negative and add up to 1 (Duchi et al., 2008, figure 1)."""
    ordered_M = np.sort(given_M)[::-1]
    excess_M = (np.cumsum(ordered_M) - 1) / np.arange(1, len(given_M) + 1)
    last = np.flatnonzero(ordered_M > excess_M)[-1]
    nearest_M: Doubles = np.maximum(given_M - excess_M[last], 0)
    return nearest_M


def _without_least(weights_M: Doubles) -> Doubles:
    kept_M = np.where(weights_M < LEAST, 0, weights_M)
    return np.asarray(kept_M / kept_M.sum(), np.float64)

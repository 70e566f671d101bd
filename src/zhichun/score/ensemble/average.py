"""The mean of what several models say of the same pairs.

Equation   probabilities ``p = Σ_k w_k p_k / Σ_k w_k`` over the classifiers ``k``; score ``s = Σ_m w_m s_m / Σ_m w_m``
           over all members ``m``, where a classifier's ``s_m`` is its expected gain and a regressor's its gain
Reference  the paper, 4.1: for task 1 it adds the mean expected gain of three classifiers and the mean of three
           regressors, which is twice this score; half of it is a gain again, and ranks alike

Legend: ``P`` pairs, ``C`` classes.
"""

from collections.abc import Sequence

import numpy as np

from zhichun.core.tasks import Prediction


def average(predictions: Sequence[Prediction], weights: Sequence[float]) -> Prediction:
    """Average predictions of the same pairs.

    Parameters
    ----------
    predictions
        Of each member: classifiers and regressors of the gain may be mixed, or all are of the substitute task.
    weights
        Of each member, above 0.

    Returns
    -------
    Prediction
        With the probabilities of the classifiers, where there are any. The sum goes through the members in order.
    """
    said = list(zip(predictions, weights, strict=True))
    classifiers = [(made, weight) for made, weight in said if made.probabilities is not None]
    score_P = np.zeros(len(predictions[0].score))
    for made, weight in said:
        score_P += weight * made.score.astype(np.float64)
    score_P /= sum(weight for _, weight in said)
    if not classifiers:
        return Prediction(predictions[0].task, None, score_P.astype(np.float32))
    total_PC = np.zeros((len(score_P), classifiers[0][0].task.outputs))
    for made, weight in classifiers:
        assert made.probabilities is not None
        total_PC += weight * made.probabilities.astype(np.float64)
    probabilities_PC = (total_PC / sum(weight for _, weight in classifiers)).astype(np.float32)
    return Prediction(classifiers[0][0].task, probabilities_PC, score_P.astype(np.float32))

"""Confident learning: which judgements are probably wrong, from probabilities of models that did not train on them.

How often label i is given where j is right is counted over the pairs that the model is confident about, those whose
probability of j reaches the mean probability of j among the pairs labelled j. Of the pairs labelled i, as many as were
counted for j are *issues*: those with the largest margin ``p_j - p_i`` ("prune by noise rate"). Issues are ordered by
normalised margin, ``(1 + p_given - max of the other p) / 2``, the most doubtful first.

Reference: Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", Journal of
Artificial Intelligence Research 70, 2021; computed by cleanlab (the extra ``audit``).

Legend: ``P`` pairs, ``C`` classes, ``I`` issues.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zhichun.core.errors import UserError


@dataclass(frozen=True, eq=False)
class LabelIssues:
    """What confident learning found.

    Attributes
    ----------
    places_I
        Which pairs are issues, the most doubtful first.
    quality_P
        Normalised margin of every pair, from 0 (surely wrong) to 1 (surely right).
    joint_CC
        Estimated number of pairs by label given (rows) and right (columns): cleanlab's calibrated confident joint. A
        row adds up to the pairs given that label.
    """

    places_I: npt.NDArray[np.int64]
    quality_P: npt.NDArray[np.float64]
    joint_CC: npt.NDArray[np.int64]


def find_label_issues(labels_P: npt.NDArray[np.int64], probabilities_PC: npt.NDArray[np.float64]) -> LabelIssues:
    """Find the judgements that are probably wrong.

    Parameters
    ----------
    labels_P
        Given labels, as places of the classes.
    probabilities_PC
        Probabilities by a model that was not trained on the pair.

    Returns
    -------
    LabelIssues
        The same as cleanlab's ``find_label_issues(filter_by="prune_by_noise_rate",
        return_indices_ranked_by="normalized_margin")``, with what it rests on.

    Raises
    ------
    UserError
        When all pairs have one label, so that there is nothing to mistake it for.
    """
    # It brings scikit-learn and pandas, which nothing else here needs.
    from cleanlab import count, rank
    from cleanlab import filter as filters

    if len(np.unique(labels_P)) < 2:
        raise UserError(
            "all judgements have the same label, so none can be doubted.",
            remedy="Audit judgements with at least two labels.",
        )
    joint_CC = count.compute_confident_joint(labels_P, probabilities_PC)
    with warnings.catch_warnings():
        # It warns of classes with one pair, which cannot be doubted, and of those with none.
        warnings.filterwarnings("ignore", "May not flag all label issues in class", UserWarning)
        places_I = filters.find_label_issues(
            labels_P,
            probabilities_PC,
            filter_by="prune_by_noise_rate",
            return_indices_ranked_by="normalized_margin",
            confident_joint=joint_CC,
            n_jobs=1,  # processes would be started for less than a second of work
        )
    quality_P = rank.get_label_quality_scores(labels_P, probabilities_PC, method="normalized_margin")
    return LabelIssues(places_I.astype(np.int64), quality_P, joint_CC.astype(np.int64))

"""Confident learning: finds label errors with out-of-fold probabilities.

The number of pairs with given label i and true label j is counted over confident pairs, those whose
probability of j reaches the mean probability of j among the pairs labelled j. Of the pairs labelled i, as many as were
counted for j are *issues*: those with the largest margin ``p_j - p_i`` ("prune by noise rate"). Issues are ordered by
normalised margin, ``(1 + p_given - max of the other p) / 2``, lowest first.

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
    """Result of confident learning.

    Attributes
    ----------
    places_I
        Rows of the issues, lowest quality first.
    quality_P
        Normalised margin of every pair, from 0 (wrong) to 1 (correct).
    joint_CC
        Estimated number of pairs by given (rows) and true (columns) label: cleanlab's calibrated confident joint. A
        row adds up to the pairs given that label.
    """

    places_I: npt.NDArray[np.int64]
    quality_P: npt.NDArray[np.float64]
    joint_CC: npt.NDArray[np.int64]


def find_label_issues(labels_P: npt.NDArray[np.int64], probabilities_PC: npt.NDArray[np.float64]) -> LabelIssues:
    """Find likely label errors.

    Parameters
    ----------
    labels_P
        Given labels, as class indices.
    probabilities_PC
        Probabilities by a model that was not trained on the pair.

    Returns
    -------
    LabelIssues
        The same as cleanlab's ``find_label_issues(filter_by="prune_by_noise_rate",
        return_indices_ranked_by="normalized_margin")``, with the noise matrix.

    Raises
    ------
    UserError
        When all pairs have one label.
    """
    # It brings scikit-learn and pandas, which nothing else here needs.
    from cleanlab import count, rank
    from cleanlab import filter as filters

    if len(np.unique(labels_P)) < 2:
        raise UserError(
            "all judgements have the same label, so no label error can be found.",
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

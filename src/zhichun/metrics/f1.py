"""F1 and its parts: the confusion matrix, precision and recall of each class.

Every pair has one true and one predicted class. Over all classes, micro-F1 then is the share of correct predictions
(accuracy), and hides the rare classes: report macro-F1 and the F1 of each class with it. A class with
denominator 0 (never true and never predicted) has the value 0 and counts in the macro mean, as in
scikit-learn with ``labels`` given and ``zero_division=0``.

Shapes: ``N`` pairs, ``C`` classes.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from zhichun.metrics.judged import Judged
from zhichun.metrics.metric import Metric


def confusion(judged: Judged) -> NDArray[np.intp]:
    """Count the pairs of each true (row) and predicted (column) class.

    Parameters
    ----------
    judged
        Pairs with predictions.

    Returns
    -------
    NDArray[np.intp]
        Rows and columns in the order of ``judged.classes``. Shape [C, C].

    Raises
    ------
    ValueError
        If there are no predictions, or a pair is not judged.
    """
    classes = len(judged.classes)
    return np.bincount(judged.truth * classes + _predictions(judged), minlength=classes**2).reshape(classes, classes)


def _predictions(judged: Judged) -> NDArray[np.intp]:
    if judged.predictions is None:
        raise ValueError("a classification metric needs predictions")
    return judged.predictions


def _parts_of_f1(judged: Judged) -> NDArray[np.float64]:
    """Return, for each pair and class, twice whether it is rightly so, then how often it is so. Shape [N, 2 C]."""
    one_hot = np.eye(len(judged.classes))
    true, predicted = one_hot[judged.truth], one_hot[_predictions(judged)]
    return np.concatenate([2 * true * predicted, true + predicted], axis=1)


@dataclass(frozen=True, eq=False)
class ClassScores:
    """Precision, recall, F1 and the number of true pairs of each class, in the order of the classes. Shape [C] each."""

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    support: NDArray[np.intp]


def class_scores(confusion_CC: NDArray[np.intp]) -> ClassScores:
    """Compute the scores of each class.

    Parameters
    ----------
    confusion_CC
        From `confusion`. Shape [C, C].
    """
    right, true, predicted = np.diag(confusion_CC), confusion_CC.sum(axis=1), confusion_CC.sum(axis=0)
    return ClassScores(
        precision=_ratio(right, predicted),
        recall=_ratio(right, true),
        f1=_ratio(2 * right, true + predicted),
        support=true,
    )


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros(np.shape(part)), where=whole != 0)


@dataclass(frozen=True)
class MicroF1(Metric):
    """F1 over all classes together, which is accuracy; in 0..1."""

    reads: ClassVar[Literal["predictions"]] = "predictions"

    name = "micro_f1"
    title = "micro-F1"

    def per_pair(self, judged: Judged) -> NDArray[np.float64]:
        """Return 1 where the prediction is right and 0 where not, for `paired_bootstrap`. Shape [N].

        Raises
        ------
        ValueError
            If there are no predictions, or a pair is not judged.
        """
        right: NDArray[np.float64] = (judged.truth == _predictions(judged)).astype(np.float64)
        return right

    def sums(self, judged: Judged) -> NDArray[np.float64]:
        """Return the right answers, and the pairs. Shape [Q, 2]."""
        right = self.per_pair(judged)
        return judged.sum_by_query(np.stack([right, np.ones_like(right)], axis=1))


@dataclass(frozen=True)
class MacroF1(Metric):
    """Unweighted mean of the F1 of every class; in 0..1."""

    reads: ClassVar[Literal["predictions"]] = "predictions"

    name = "macro_f1"
    title = "macro-F1"

    def sums(self, judged: Judged) -> NDArray[np.float64]:
        """Return twice the right answers of each class, then its true and predicted pairs. Shape [Q, 2 C]."""
        return judged.sum_by_query(_parts_of_f1(judged))

    def value(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Average over classes."""
        right, whole = np.split(sums, 2, axis=-1)
        return np.asarray(_ratio(right, whole).mean(axis=-1))


@dataclass(frozen=True)
class F1(Metric):
    """F1 of one class; in 0..1.

    Parameters
    ----------
    label
        The class.

    Raises
    ------
    UserError
        When called, if the judged pairs have no such class.
    """

    reads: ClassVar[Literal["predictions"]] = "predictions"

    label: str

    @property
    def name(self) -> str:
        """The metric's key in ``metrics.json``, such as ``f1.E``."""
        return f"f1.{self.label}"

    @property
    def title(self) -> str:
        """Display name."""
        return f"F1 of {self.label}"

    @classmethod
    def reported(cls, classes: tuple[str, ...]) -> tuple[Metric, ...]:
        """For each class."""
        return tuple(cls(label) for label in classes)

    def sums(self, judged: Judged) -> NDArray[np.float64]:
        """Return twice the right answers of the class, and its true and predicted pairs. Shape [Q, 2]."""
        index = judged.index_of(self.label)
        return judged.sum_by_query(_parts_of_f1(judged)[:, [index, index + len(judged.classes)]])

    def value(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return twice the right answers over the true and predicted pairs."""
        return _ratio(sums[..., 0], sums[..., 1])

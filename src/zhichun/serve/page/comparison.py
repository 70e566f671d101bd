"""The two orders of the same products on the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from zhichun.core.schema import LABEL_NAMES
from zhichun.core.tasks import Prediction, Task
from zhichun.metrics import Judged, label_codes, nDCG
from zhichun.serve.page.catalogue_search import Fields

# Of the judgements, and of the classes of the substitute task.
CLASS_NAMES: Final = {**LABEL_NAMES, "other": "Other"}


@dataclass(frozen=True)
class Row:
    """A product on the page.

    Parameters
    ----------
    product
        Its fields by short name.
    first, second
        Its ranks in the two orders, from 1.
    first_score
        Of the first stage; None for a user's list.
    score
        The model's ranking score.
    label
        The model's class; None from a regressor.
    chances
        Each class with its probability.
    judged
        Its judgement, or None.
    """

    product: Fields
    first: int
    second: int
    first_score: float | None
    score: float
    label: str | None
    chances: dict[str, float]
    judged: str | None

    @property
    def moved(self) -> int:
        """Ranks gained; negative if it fell."""
        return self.first - self.second

    @property
    def record(self) -> dict[str, Any]:
        """The data stored with a user's judgement."""
        return {
            "product_id": self.product["product_id"],
            "locale": self.product["locale"],
            "model_label": self.label or "",
            "score": round(self.score, 6),
            "probabilities": {name: round(chance, 6) for name, chance in self.chances.items()},
        }


@dataclass(frozen=True)
class Comparison:
    """The two orders, with figures.

    Parameters
    ----------
    rows
        Products in the model's order.
    task
        The model's task.
    """

    rows: tuple[Row, ...]
    task: Task

    def exact_in_first(self, count: int) -> tuple[int, int] | None:
        """Count predicted Exact among the first of both orders; None without this class."""
        if "E" not in self.task.classes or len(self.rows) <= count:
            return None
        exact = [row for row in self.rows if row.label == "E"]
        return sum(row.first <= count for row in exact), sum(row.second <= count for row in exact)

    def ndcg(self) -> tuple[float, float] | None:
        """Compute nDCG of the judged products in both orders, with the contest's gains.

        None if all have one label, or if the model does not rank by gain.
        """
        rows = [row for row in self.rows if row.judged]
        labels = [row.judged for row in rows if row.judged]
        if len(set(labels)) < 2 or self.task.name == "substitute":
            return None
        codes = label_codes(labels)
        places = ([row.first for row in rows], [row.second for row in rows])
        first, second = (
            nDCG()(Judged(np.zeros(len(rows), int), codes, scores=-np.asarray(each, float))) for each in places
        )
        return first, second


def compare(
    products: Sequence[Fields],
    first_scores: Sequence[float | None],
    prediction: Prediction,
    judgements: Mapping[str, str],
) -> Comparison:
    """Compare the model's order with that of the first stage.

    Parameters
    ----------
    products, first_scores
        Products in the order of the first stage, and its scores.
    prediction
        The model's predictions.
    judgements
        Labels by product id.
    """
    labels, probabilities, classes = prediction.labels, prediction.probabilities, prediction.task.classes
    rows = []
    for second, place in enumerate(np.argsort(-prediction.score, kind="stable").tolist(), start=1):
        chances = () if probabilities is None else zip(classes, probabilities[place].tolist(), strict=True)
        rows.append(
            Row(
                product=products[place],
                first=place + 1,
                second=second,
                first_score=first_scores[place],
                score=float(prediction.score[place]),
                label=labels[place] if labels else None,
                chances=dict(chances),
                judged=judgements.get(products[place]["product_id"] or ""),
            )
        )
    return Comparison(tuple(rows), prediction.task)

"""What the answers of several interfaces share: numbers, order, and the label and probabilities beside a score.

Legend: ``P`` pairs.
"""

from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, Field

from zhichun.core.tasks import Floats
from zhichun.serve.queue.service import Answer


class Judged(BaseModel):
    """What is particular to this server beside the score of a pair."""

    label: Annotated[str | None, Field(description="The likeliest class; a regressor has none.")] = None
    probabilities: Annotated[dict[str, float] | None, Field(description="Of each class; a regressor has none.")] = None


class Usage(BaseModel):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int

    @classmethod
    def of(cls, answer: Answer) -> "Usage":
        """Count those of an answer."""
        return cls(prompt_tokens=answer.tokens, total_tokens=answer.tokens)


def best_first(score_P: Floats) -> list[int]:
    """Order pairs by score; equal ones stay as they came."""
    return np.argsort(-score_P, kind="stable").tolist()


def decimals(values: Floats) -> list[Any]:
    """Give float32 numbers, in whatever shape, as the shortest decimals that mean them.

    As doubles they would be written with up to 17 digits that say nothing, and OpenSearch's connector fails on a score
    of more than 18 characters: what reads JSON for it takes that for a decimal, where it wants a double.
    """
    shortest = pa.array(values.ravel(), pa.float32()).cast(pa.string()).cast(pa.float64())
    return shortest.to_numpy().reshape(values.shape).tolist()


def judged(answer: Answer) -> list[dict[str, Any]]:
    """Give the label and the probabilities of each pair; of a regressor, and where nothing was scored, nothing."""
    prediction = answer.prediction
    if not answer.scored or prediction.labels is None or prediction.probabilities is None:
        return [{} for _ in prediction.score]
    names = prediction.task.classes
    return [
        {"label": label, "probabilities": dict(zip(names, row, strict=True))}
        for label, row in zip(prediction.labels, decimals(prediction.probabilities), strict=True)
    ]

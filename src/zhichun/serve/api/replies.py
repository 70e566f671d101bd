"""Shared parts of responses: numbers, order, labels and probabilities.

Legend: ``P`` pairs.
"""

from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, Field

from zhichun.core.tasks import Floats
from zhichun.serve.queue.service import Answer


class Judged(BaseModel):
    """Additional fields of a scored pair."""

    label: Annotated[str | None, Field(description="The most likely class; a regressor has none.")] = None
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
    """Sort pairs by score; ties keep the order of the request."""
    return np.argsort(-score_P, kind="stable").tolist()


def decimals(values: Floats) -> list[Any]:
    """Return float32 numbers of any shape as the shortest decimals that represent them.

    As doubles they would have up to 17 meaningless digits, and OpenSearch's connector fails on a score
    of more than 18 characters: its JSON parser reads it as a decimal, but it expects a double.
    """
    shortest = pa.array(values.ravel(), pa.float32()).cast(pa.string()).cast(pa.float64())
    return shortest.to_numpy().reshape(values.shape).tolist()


def judged(answer: Answer) -> list[dict[str, Any]]:
    """Return the label and the probabilities of each pair; none for a regressor or without scores."""
    prediction = answer.prediction
    if not answer.scored or prediction.labels is None or prediction.probabilities is None:
        return [{} for _ in prediction.score]
    names = prediction.task.classes
    return [
        {"label": label, "probabilities": dict(zip(names, row, strict=True))}
        for label, row in zip(prediction.labels, decimals(prediction.probabilities), strict=True)
    ]

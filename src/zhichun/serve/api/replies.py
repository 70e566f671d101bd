"""What all endpoints that score share: how long a client waits, how results are ordered and written, what can fail.

Legend: ``P`` pairs.
"""

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import numpy as np
import pyarrow as pa
from fastapi import Header, Response
from pydantic import BaseModel, TypeAdapter

from zhichun.core.tasks import Floats, Prediction
from zhichun.serve.api.dialects import Dialect
from zhichun.serve.api.refusal import Refusal
from zhichun.serve.api.responses import CohereError, JinaError, TeiError, VllmError
from zhichun.serve.queue.service import Answer, Service

INCOMING: Final = {"X-Order": "incoming"}
WARNING: Final = "there was no time to score: the documents are in the order in which they came."
ERROR_OF: Final[dict[Dialect, Any]] = {
    Dialect.TEI: TeiError,
    Dialect.JINA: JinaError,
    Dialect.COHERE: CohereError,
    Dialect.VLLM: VllmError,
    Dialect.UNDECIDED: TeiError | JinaError,
}
STATUSES: Final = {
    400: "The body is not JSON, or holds no document.",
    401: "The key is missing or wrong.",
    403: "The request comes from another site.",
    413: "The body is too large, or holds too many documents.",
    415: "The body is not of the type application/json.",
    422: "The body is not what this endpoint reads.",
    424: "The model failed.",
    429: "Too much waits already; come back after `Retry-After` seconds.",
    500: "A fault of the server; its id is in the log.",
    503: "The model is being loaded, or the server is ending.",
    504: "The time is over.",
}
# Bodies are written as they are, so that a float is 1.0 and never 1.
_LISTS: Final = TypeAdapter(list[Any])


@dataclass(frozen=True)
class Patience:
    """How long a client waits, and what it wants after that.

    Parameters
    ----------
    x_request_timeout
        Seconds; the server's own limit if not given.
    x_on_timeout
        ``error`` for 504, ``incoming-order`` for the documents as they came.
    """

    x_request_timeout: Annotated[
        float | None, Header(gt=0, le=86_400, description="Seconds that the answer may take.")
    ] = None
    x_on_timeout: Annotated[
        Literal["error", "incoming-order"], Header(description="What to answer when the time is over.")
    ] = "error"

    async def wait(self, service: Service, answer: Awaitable[Answer], pairs: int) -> tuple[Answer, bool]:
        """Wait for scores; gives the answer and whether it has them."""
        try:
            return await answer, True
        except Refusal as refusal:
            if refusal.status != 504 or self.x_on_timeout == "error":
                raise
            return service.incoming_order(pairs), False


def failures(dialect: Dialect) -> dict[int | str, dict[str, Any]]:
    """Describe how an endpoint says that something went wrong."""
    return {status: {"model": ERROR_OF[dialect], "description": text} for status, text in STATUSES.items()}


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


def judgements(prediction: Prediction) -> list[dict[str, Any]]:
    """Give the label and the probabilities of each pair; of a regressor nothing."""
    labels, probabilities_PC = prediction.labels, prediction.probabilities
    if labels is None or probabilities_PC is None:
        return [{} for _ in prediction.score]
    names = prediction.task.classes
    return [
        {"label": label, "probabilities": dict(zip(names, row, strict=True))}
        for label, row in zip(labels, decimals(probabilities_PC), strict=True)
    ]


def reply(body: BaseModel | Sequence[Any], *, scored: bool = True) -> Response:
    """Write an answer; what is null is left out."""
    headers: Mapping[str, str] = {} if scored else INCOMING
    if isinstance(body, BaseModel):
        content: str | bytes = body.model_dump_json(exclude_none=True)
    else:
        content = _LISTS.dump_json(list(body), exclude_none=True)
    return Response(content, media_type="application/json", headers=headers)

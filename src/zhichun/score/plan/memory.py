"""Memory that a model takes, worked out from its shape: nothing large is made to find it out.

Legend: ``B`` pairs, ``T`` tokens.
"""

from typing import Final

from zhichun.fit.train_settings import TrainSettings
from zhichun.score.plan.rate import MOST_PAIRS
from zhichun.score.plan.shapes import Shape

GIB: Final = 1 << 30
# What a scoring job takes beside the model: Python, its libraries, and a chunk of texts with their tokens.
JOB: Final = 450 << 20
JOB_WITH_TORCH: Final = 900 << 20
FP32, INT8, BF16 = 4, 1, 2
# Weights, their gradients and AdamW's two moments, all in fp32.
TRAINED: Final = 4 * FP32
MICRO_BATCH_TOKENS: Final = TrainSettings().micro_batch_tokens


def scoring_bytes(weights: int, working: int, streams: int, *, with_torch: bool) -> int:
    """Add up what `zhichun score` takes, however many pairs there are; a catalogue of ``--products`` comes on top."""
    return weights + working * streams + (JOB_WITH_TORCH if with_torch else JOB)


def weights_of(shape: Shape, engine: str) -> int:
    """Count the bytes of a shape's weights in an engine: in int8 those of products that do not narrow."""
    if not engine.endswith("int8"):
        return shape.parameters * FP32
    quantised = shape.layers * (4 * shape.hidden**2 + shape.hidden * shape.intermediate)
    return shape.parameters * FP32 - quantised * (FP32 - INT8)


def working_of(shape: Shape, tokens: int, pairs: int = MOST_PAIRS) -> int:
    """Bytes of a batch within one layer: what the feed-forward widens to, six vectors, and two tables of attention."""
    values_T = 6 * shape.hidden + 2 * shape.intermediate + 2 * shape.heads * tokens
    return pairs * tokens * values_T * FP32


def training_bytes(shape: Shape) -> int:
    """Add up what training takes: the weights fourfold, and what every layer keeps of a micro-batch."""
    kept_T = 12 * shape.hidden + 3 * shape.intermediate
    return shape.parameters * TRAINED + MICRO_BATCH_TOKENS * shape.layers * kept_T * FP32 + JOB_WITH_TORCH

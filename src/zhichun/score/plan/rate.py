"""How many pairs an engine computes in a second, timed on made-up batches.

Legend: ``B`` pairs, ``T`` tokens.
"""

import time
from dataclasses import dataclass
from typing import Final

import numpy as np

from zhichun.score.engines.engine import Engine
from zhichun.text.pairs import Arrays

# What a batch holds where the engine bounds the tokens only: enough for a processor.
MOST_PAIRS: Final = 8


@dataclass(frozen=True)
class Rate:
    """What was timed.

    Parameters
    ----------
    pairs
        Pairs that were computed.
    seconds
        How long that took.
    """

    pairs: int
    seconds: float

    @property
    def per_second(self) -> float:
        """Pairs in a second."""
        return self.pairs / self.seconds


def made_up_batch(pairs: int, tokens: int) -> Arrays:
    """Give a batch of text alone, ``[B, T]``, without padding."""
    ones_BT = np.ones((pairs, tokens), np.int64)
    return {"input_ids": 5 * ones_BT, "attention_mask": ones_BT, "token_type_ids": np.zeros_like(ones_BT)}


def measure(engine: Engine, tokens: int, seconds: float, most_pairs: int = MOST_PAIRS) -> Rate:
    """Time an engine for about so long, after a first round that is not counted; at least one round is.

    Parameters
    ----------
    engine
        What computes.
    tokens
        Tokens of each pair.
    seconds
        How long to go on.
    most_pairs
        Pairs of a batch, where the engine asks for more.
    """
    batch = made_up_batch(min(engine.pairs_per_batch or most_pairs, most_pairs), tokens)
    round_ = [batch] * engine.streams
    list(engine.run(round_))
    began, rounds = time.perf_counter(), 0
    while not rounds or time.perf_counter() - began < seconds:
        list(engine.run(round_ * 2))
        rounds += 2
    return Rate(rounds * len(round_) * len(batch["input_ids"]), time.perf_counter() - began)

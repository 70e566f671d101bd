"""The interface of pretext tasks, and their inputs.

A task is a frozen dataclass of settings. It makes the examples of some products as arrays, in the background and
without torch, as a pure function of (seed, task, epoch, product); and it makes the head that learns from them.

Spans of a text by character, of Poisson length, and the words that tokens belong to, are for the pseudo-queries of
Product2Query, and for masking and repeating whole words.

Legend: ``N`` the items that a task scores in a batch: masked tokens, pairs, products; ``T`` tokens, ``V`` pieces of the
tokenizer's vocabulary.
"""

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import ClassVar, NamedTuple
from zlib import crc32

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from zhichun.core.arrays import Bools, Int32, Int64
from zhichun.data.feature_store import CatalogueTexts
from zhichun.model.encoder import Encoder, LMHead
from zhichun.text.pairs import Arrays, ProductTexts, TextReader

ITEMS = "items"


class Outcome(NamedTuple):
    """Result of a head for a batch.

    Parameters
    ----------
    loss_N
        Loss of each item, float32; only the objective reduces.
    right_N
        Whether it was told right.
    """

    loss_N: Tensor
    right_N: Tensor


class PretextHead(nn.Module):
    """The trained part of a task besides the encoder."""

    def forward(self, encoder: Encoder, batch: dict[str, Tensor]) -> Outcome:
        """Score a batch of the task's own arrays."""
        raise NotImplementedError

    def after_step(self, encoder: Encoder) -> None:
        """Run after each step of the optimiser; most heads do nothing."""

    def tables(self) -> dict[str, Tensor]:
        """Return the tables for fine-tuning by id embedding (``brand``, ``color``): a row per entry."""
        return {}


@dataclass(frozen=True)
class Draw:
    """The random numbers of an epoch.

    Parameters
    ----------
    seed
        Of the run.
    epoch
        Counted from 0.
    """

    seed: int
    epoch: int

    def generator(self, task: str, row: int) -> np.random.Generator:
        """Return the generator of one product's examples in one task, the same in every batch and process."""
        return np.random.Generator(np.random.PCG64([self.seed, crc32(task.encode()), self.epoch, row]))


@dataclass(frozen=True)
class Sizes:
    """Rows of the catalogue's tables, and the head of the encoder's checkpoint, if any."""

    brands: int
    colors: int
    lm_head: LMHead | None = None


class Pretext(ABC):
    """A pretext task's settings: a frozen dataclass, for which `PretrainingSettings` has a field of its name."""

    name: ClassVar[str]
    """As in ``objective.mlm``; also the prefix of its figures."""
    is_on: ClassVar[bool] = False
    """Whether it is on by default."""
    weight: float
    """Weight in the objective."""

    @abstractmethod
    def examples(self, texts: ProductTexts, catalogue: CatalogueTexts, reader: TextReader, draw: Draw) -> Arrays:
        """Make the arrays of one micro-batch.

        ``items`` (0-d, int64) says how many things are scored. Where no product has the field it is 0, the arrays have
        no rows, and the head is not called.
        """

    @abstractmethod
    def head(self, encoder: Encoder, sizes: Sizes) -> PretextHead:
        """Make the head with its starting weights."""


Span = tuple[int, int]


@dataclass(frozen=True)
class SpanLengths:
    """Lengths of the spans that are cut from a text, in characters.

    Parameters
    ----------
    mean
        μ of the Poisson distribution.
    shortest
        Lengths below have no probability.
    longest
        Lengths above have none; for a single span.
    longest_of_two
        The same for each of two spans.
    """

    mean: float
    shortest: int
    longest: int = 20
    longest_of_two: int = 12


@lru_cache(maxsize=256)
def truncated_poisson(mean: float, shortest: int, longest: int) -> tuple[float, ...]:
    """Probabilities of the lengths ``shortest`` … ``longest`` under a Poisson distribution truncated to them.

    Truncated means conditioned: ``P(k) = μᵏ/k! / Σ_j μʲ/j!`` over the lengths that are left. The rest is not
    added to the ends.
    """
    logs = [length * math.log(mean) - math.lgamma(length + 1) for length in range(shortest, longest + 1)]
    weights = [math.exp(log - max(logs)) for log in logs]
    return tuple(weight / sum(weights) for weight in weights)


@lru_cache(maxsize=256)
def _cumulated(mean: float, shortest: int, longest: int) -> tuple[float, ...]:
    return tuple(accumulate(truncated_poisson(mean, shortest, longest)))


def draw_length(random: np.random.Generator, mean: float, shortest: int, longest: int) -> int:
    """Draw a length from the truncated Poisson distribution."""
    found = bisect_right(_cumulated(mean, shortest, longest), random.random())
    return min(shortest + found, longest)  # the probabilities may add up to a little less than 1


def draw_spans(random: np.random.Generator, size: int, lengths: SpanLengths) -> list[Span]:
    """Draw one span of a text or, with probability one half, two.

    Parameters
    ----------
    random
        The product's generator.
    size
        Characters of the text, at least ``lengths.shortest``; no span is longer.
    lengths
        The distribution of lengths.

    Returns
    -------
    list of (start, end)
        In the order of the text; two that overlap or touch are merged into one.
    """
    two = random.random() < 0.5
    longest = min(lengths.longest_of_two if two else lengths.longest, size)
    spans = []
    for _ in range(1 + two):
        length = draw_length(random, lengths.mean, lengths.shortest, longest)
        start = int(random.random() * (size - length + 1))
        spans.append((start, start + length))
    first, last = min(spans), max(spans)
    return [(first[0], max(first[1], last[1]))] if first[1] >= last[0] else [first, last]


def cut(text: str, spans: Sequence[Span]) -> str:
    """Read the spans of a text, one space apart, without outer spaces."""
    return " ".join(text[start:end].strip() for start, end in spans)


def without(text: str, spans: Sequence[Span]) -> str:
    """Remove spans from a text; the rest is joined by spaces."""
    ends = [0, *(end for _, end in spans)]
    starts = [*(start for start, _ in spans), len(text)]
    rest = " ".join(text[end:start] for end, start in zip(ends, starts, strict=True))
    return " ".join(rest.split())


def word_of_token(
    tokens_T: npt.NDArray[np.integer], word_starts_V: Bools, special_ids: npt.NDArray[np.integer]
) -> Int64:
    """Count, for each token, the words before the one that it belongs to.

    Parameters
    ----------
    tokens_T
        Ids of a text.
    word_starts_V
        For each piece whether a word begins with it.
    special_ids
        Ids that are not words: each is separate, and a word begins after it.
    """
    special_T = np.isin(tokens_T, special_ids)
    starts_T = word_starts_V[tokens_T] | special_T
    starts_T[1:] |= special_T[:-1]
    starts_T[:1] = True
    return np.cumsum(starts_T) - 1


def repeat_words(
    tokens_T: Int32,
    random: np.random.Generator,
    share: float,
    word_starts_V: Bools,
    special_ids: npt.NDArray[np.integer],
) -> Int32:
    """Write some words of a text twice in a row, as ESimCSE does (Wu et al., 2021).

    Parameters
    ----------
    tokens_T
        Ids of a text.
    random
        The product's generator.
    share
        How many are repeated is drawn evenly from 1 to this share of the words, or to 1 where that is less.
    word_starts_V, special_ids
        As in `word_of_token`; special tokens are never repeated.
    """
    word_T = word_of_token(tokens_T, word_starts_V, special_ids)
    words = np.unique(word_T[~np.isin(tokens_T, special_ids)])
    if not len(words):
        return tokens_T
    count = int(random.integers(1, max(1, int(share * len(words))) + 1))
    again_T = np.isin(word_T, random.choice(words, count, replace=False))
    # Sorted by word, the copy behind what it copies.
    order = np.argsort(np.concatenate([2 * word_T, 2 * word_T[again_T] + 1]), kind="stable")
    return np.concatenate([tokens_T, tokens_T[again_T]])[order]

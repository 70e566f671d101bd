"""Spans of a text by character, of Poisson length, and the words that tokens belong to.

For the pseudo-queries of Product2Query, and for masking and repeating whole words.

Legend: ``T`` tokens, ``V`` pieces of the tokenizer's vocabulary.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from zhichun.core.arrays import Bools, Int32, Int64

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

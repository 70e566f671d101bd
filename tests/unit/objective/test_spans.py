"""Spans of Poisson length cut from a text, and words of tokens."""

import math

import numpy as np
import pytest
from scipy import stats

from zhichun.objective.pretext.task import (
    SpanLengths,
    cut,
    draw_length,
    draw_spans,
    repeat_words,
    truncated_poisson,
    without,
    word_of_token,
)

AMERICAN = SpanLengths(mean=4, shortest=8)
JAPANESE = SpanLengths(mean=8, shortest=4)
BOUNDS = {"us": (4, 8, 20), "us, of two": (4, 8, 12), "jp": (8, 4, 20), "jp, of two": (8, 4, 12)}

# Pieces: 0 and 1 are special, 2 and 3 begin words, 4 and 5 go on with them.
STARTS_V = np.asarray([False, False, True, True, False, False])
SPECIAL = np.asarray([0, 1])


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def p_value(lengths: list[int], mean: float, shortest: int, longest: int) -> float:
    """Chi-square against scipy's Poisson distribution, conditioned on the bounds; rare lengths are joined."""
    values = np.arange(shortest, longest + 1)
    expected = stats.poisson.pmf(values, mean)
    expected *= len(lengths) / expected.sum()
    observed = np.bincount(np.asarray(lengths) - shortest, minlength=len(values))
    frequent = expected >= 5
    parts = [
        np.append(counts[frequent], counts[~frequent].sum()) if (~frequent).any() else counts
        for counts in (observed, expected)
    ]
    return float(stats.chisquare(*parts).pvalue)


def test_truncated_means_conditioned():
    """Poisson(4): 8 and 9 are as 1 to 4/9."""
    assert truncated_poisson(4, 8, 9) == pytest.approx((9 / 13, 4 / 13))
    assert truncated_poisson(8, 4, 4) == (1.0,)
    assert math.fsum(truncated_poisson(8, 4, 20)) == pytest.approx(1)


@pytest.mark.parametrize("bounds", BOUNDS.values(), ids=BOUNDS)
def test_lengths_have_the_stated_distribution(bounds):
    generator = random()
    lengths = [draw_length(generator, *bounds) for _ in range(20_000)]
    assert (min(lengths), max(lengths)) >= (bounds[1], bounds[1] + 4)
    assert p_value(lengths, *bounds) > 0.001
    assert p_value(lengths, bounds[0] + 0.5, *bounds[1:]) < 1e-6  # the test would tell another mean


@pytest.mark.parametrize("lengths", [AMERICAN, JAPANESE], ids=["us", "jp"])
def test_spans_of_a_long_text_are_one_or_two_of_that_distribution(lengths):
    generator = random(1)
    drawn = [draw_spans(generator, 1_000_000, lengths) for _ in range(20_000)]  # too long for two to overlap
    alone = [end - start for spans in drawn if len(spans) == 1 for start, end in spans]
    of_two = [end - start for spans in drawn if len(spans) == 2 for start, end in spans]
    assert stats.binomtest(len(alone), len(drawn)).pvalue > 0.001
    assert p_value(alone, lengths.mean, lengths.shortest, lengths.longest) > 0.001
    assert p_value(of_two, lengths.mean, lengths.shortest, lengths.longest_of_two) > 0.001


def test_a_query_is_about_as_long_as_the_paper_says():
    """A median of 14 characters for us and es; docs/method.md."""
    generator = random(2)
    mean = np.mean([len(cut("x" * 80, draw_spans(generator, 80, AMERICAN))) for _ in range(5_000)])
    assert 12 < mean < 14


def test_every_place_of_a_text_can_begin_a_span():
    starts = [draw_spans(generator, 30, AMERICAN)[0][0] for generator in [random(3)] for _ in range(2_000)]
    assert set(starts) == set(range(30 - 8 + 1))


def test_no_span_is_longer_than_the_text():
    assert {tuple(draw_spans(random(seed), 8, AMERICAN)) for seed in range(50)} == {((0, 8),)}


def test_spans_that_overlap_are_merged():
    drawn = [draw_spans(random(seed), 24, AMERICAN) for seed in range(500)]
    merged = [spans for spans in drawn if len(spans) == 1 and spans[0][1] - spans[0][0] > 16]
    assert merged
    assert all(spans[0][1] < spans[1][0] for spans in drawn if len(spans) == 2)


def test_a_cut_is_read_with_single_spaces_and_what_remains_too():
    text = "red running shoes for women"
    spans = [(3, 11), (17, 21)]
    assert cut(text, spans) == "running for"
    assert without(text, spans) == "red shoes women"
    assert without(text, [(0, len(text))]) == ""


def test_words_begin_where_pieces_say_so_and_after_special_tokens():
    tokens = np.asarray([4, 2, 4, 5, 3, 0, 5, 4, 2])
    assert word_of_token(tokens, STARTS_V, SPECIAL).tolist() == [0, 1, 1, 1, 2, 3, 4, 4, 5]
    assert word_of_token(tokens[:0], STARTS_V, SPECIAL).tolist() == []


def test_whole_words_are_repeated_in_their_place():
    tokens = np.asarray([2, 4, 0, 3], np.int32)
    seen = {tuple(repeat_words(tokens, random(seed), 1.0, STARTS_V, SPECIAL).tolist()) for seed in range(50)}
    assert seen == {(2, 4, 2, 4, 0, 3), (2, 4, 0, 3, 3), (2, 4, 2, 4, 0, 3, 3)}


def test_at_least_one_word_is_repeated_and_at_most_the_share():
    tokens = np.full(100, 2, np.int32)
    counts = {len(repeat_words(tokens, random(seed), 0.05, STARTS_V, SPECIAL)) - 100 for seed in range(100)}
    assert counts == {1, 2, 3, 4, 5}
    assert len(repeat_words(tokens[:2], random(), 0.05, STARTS_V, SPECIAL)) == 3
    assert repeat_words(SPECIAL.astype(np.int32), random(), 0.5, STARTS_V, SPECIAL).tolist() == [0, 1]

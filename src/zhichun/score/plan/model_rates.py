"""The speed of a given run or export in each of its engines: made-up texts in, scores out, reading included."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from zhichun.core import schema
from zhichun.score.engines.beside import TABLES
from zhichun.score.export.export_folder import ExportConfig, format_of, is_export
from zhichun.score.export.exported import usable
from zhichun.score.plan.rate import Rate
from zhichun.score.plan.shape_rates import torch_engines
from zhichun.score.scorer import Scorer, model_folder

WORDS: Final = ("red", "running", "shoes", "for", "women", "size", "9", "leather", "bag", "usb", "cable", "2", "m")
PAIRS: Final = 16


@dataclass(frozen=True)
class ModelRate:
    """How fast a model is.

    Parameters
    ----------
    rate
        Pairs, from texts to scores.
    tokens
        Tokens of a pair on average: as asked for, or what the model cuts to.
    """

    rate: Rate
    tokens: float


def engines_of(folder: Path) -> list[str]:
    """Name the engines that score a run or an export on this machine.

    Raises
    ------
    UserError
        When the folder is neither, not finished, damaged, or nothing that scores it is installed.
    """
    if is_export(folder):
        return usable(ExportConfig.load(folder), folder)
    model_folder(folder)
    return torch_engines() or ["torch"]  # which says what is missing when it is loaded


def weight_bytes(folder: Path, engine: str) -> int:
    """Count the bytes of the weights that an engine loads, and of the tables beside them."""
    parts = [folder / format_of(engine), folder / TABLES] if is_export(folder) else [model_folder(folder)]
    return sum(path.stat().st_size for part in parts for path in part.rglob("*") if path.is_file())


def model_rate(folder: Path, engine: str, tokens: int, seconds: float) -> ModelRate:
    """Time a model for about so long, after a first round that is not counted."""
    scorer = Scorer.load(folder, engine=engine)
    words = _words(scorer, tokens)
    chance = np.random.default_rng(0)
    count = PAIRS * scorer.engine.streams
    pairs, began, lengths = -count, 0.0, 0.0
    while pairs <= 0 or time.perf_counter() - began < seconds:
        made = scorer.read(*_texts(count, words, chance))
        scorer.logits(made, np.arange(count))
        pairs, lengths = pairs + count, float(made.lengths.mean())
        if not pairs:  # the first round is over
            began = time.perf_counter()
    return ModelRate(Rate(pairs, time.perf_counter() - began), lengths)


def _words(scorer: Scorer, tokens: int) -> int:
    """Find how many words make a pair of so many tokens."""
    words = max(1, tokens // 2)
    # What the pairs have in tokens before they are cut to the model's length.
    made = scorer.read(*_texts(PAIRS, words, np.random.default_rng(0)))
    per_word = float(made.products.tokens.lengths.mean()) / words
    query = float(made.queries.tokens.lengths.mean()) + made.layout.specials
    return max(1, round((tokens - query) / per_word))


def _texts(
    count: int, words: int, chance: np.random.Generator
) -> tuple[list[str], dict[str, list[str | None]], list[str]]:
    """Make pairs of one query's candidates, as many words each."""
    titles: list[str | None] = [" ".join(chance.choice(WORDS, words)) for _ in range(count)]
    return ["red running shoes"] * count, {schema.TITLE: titles}, [schema.LOCALES[0]] * count

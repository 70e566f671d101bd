"""What a catalogue costs on this machine, measured in half a minute: `zhichun plan`.

A run or an export is timed from texts to scores, in every engine that can score it here. An encoder that is only named
is timed by torch, on pairs of tokens: with its own weights, or with random ones where it is one of `SHAPES`.
"""

import math
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from zhichun.core import schema
from zhichun.core.arrays import Ragged
from zhichun.core.console import Bar
from zhichun.core.device import processor_name
from zhichun.core.settings import require_range
from zhichun.score.engine import RUN_ENGINES, Engine, predict_with, threads
from zhichun.score.export.export_folder import TABLES, ExportConfig, format_of, is_export
from zhichun.score.export.exported import usable
from zhichun.score.folders import model_folder
from zhichun.score.scorer import Scorer
from zhichun.text.features import ProductFeatures, QueryFeatures
from zhichun.text.pairs import Pairs, PairTexts
from zhichun.text.tokenizer import PairLayout

# Encoders of XLM-R's architecture that people score catalogues with; nothing is downloaded to time them.
SHAPES: Final = {
    "tiny": {"layers": 4, "hidden": 128, "heads": 4, "intermediate": 512, "pieces": 8_000},
    "MiniLM-L6-384": {"layers": 6, "hidden": 384, "heads": 12, "intermediate": 1536, "pieces": 30_522},
    "XLM-R-base": {"layers": 12, "hidden": 768, "heads": 12, "intermediate": 3072, "pieces": 250_002},
    "XLM-R-large": {"layers": 24, "hidden": 1024, "heads": 16, "intermediate": 4096, "pieces": 250_002},
}
DEFAULT: Final = ("tiny", "MiniLM-L6-384", "XLM-R-base")
TIMED_PIECES: Final = 1000  # looking a token up takes as long in a table of any size
MEASURING: Final = 0.4  # of the time that is given; the rest goes into loading what is measured
PAIRS: Final = 8
GIB: Final = 1 << 30
# Memory of a scoring job beside the weights: Python, its libraries, a chunk of texts; and what a stream computes with.
JOB, JOB_WITH_TORCH, STREAM = 450 << 20, 900 << 20, 96 << 20
LAYOUT: Final = PairLayout(prefix=(0,), middle=(2, 2), suffix=(2,), first_type=0, second_type=0)
WORDS: Final = ("red", "running", "shoes", "for", "women", "size", "9", "leather", "bag", "usb", "cable", "2", "m")


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is to be found out.

    Parameters
    ----------
    pairs
        Pairs to score.
    tokens
        Tokens of a pair; those of the Shopping Queries Dataset have 175 on average when they are cut to 256.
    latency
        Seconds within which a query is answered.
    candidates
        Candidates of a query whose latency is wanted; ``None`` for none.
    seconds
        About how long to measure.
    """

    pairs: int = 1_000_000
    tokens: int = 175
    latency: float = 0.1
    candidates: int | None = None
    seconds: float = 30.0

    def __post_init__(self) -> None:
        require_range(self, *asdict(self), above=0)


def plan(question: Question, models: Sequence[str] = DEFAULT, *, shown: bool = True) -> dict[str, Any]:
    """Measure models in every engine that can score them here.

    Parameters
    ----------
    question
        What is to be found out.
    models
        Folders of runs and exports, names of `SHAPES`, or hub names of encoders.
    shown
        Whether to show progress.

    Returns
    -------
    dict
        ``question``, ``machine``, and under ``scoring`` a row of figures for each model and engine.

    Raises
    ------
    UserError
        When a folder holds nothing that scores, or an encoder cannot be loaded.
    """
    works = [(name, engine) for name in models for engine in _engines(name)]
    rows: list[dict[str, Any]] = []
    with Bar("plan", shown=shown) as bar:
        bar.start(0, len(works))
        for name, engine in works:
            bar.note(f"{name}, {engine}")
            rows.append(_row(question, name, engine, MEASURING * question.seconds / len(works)))
            bar.advance(0)
    return {
        "question": asdict(question),
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "cores": os.cpu_count(),
            "threads": threads(),
            "processor": processor_name(),
        },
        "scoring": rows,
    }


def _engines(name: str) -> list[str]:
    """Name the engines that score a model on this machine."""
    folder = Path(name)
    if is_export(folder):
        return usable(ExportConfig.load(folder), folder)
    from zhichun.model.layers import has_bf16 as multiplies_bf16
    from zhichun.score.torch_engine import place_of

    return [*RUN_ENGINES[: 1 + multiplies_bf16(place_of(None))]]


def _row(question: Question, name: str, engine: str, seconds: float) -> dict[str, Any]:
    timed = _open(name, engine, question.tokens)
    row: dict[str, Any] = {"model": name, "engine": engine, "tokens": float(timed.read().lengths.mean())}
    row["pairs_per_second"] = rate = scoring_rate(timed.engine, timed.read, seconds)
    streams = timed.engine.streams
    memory = timed.weights + streams * STREAM + (JOB_WITH_TORCH if engine in RUN_ENGINES else JOB)
    row |= {"seconds": question.pairs / rate, "memory_gib": memory / GIB}
    # A round of pairs is computed at once, one on each stream, and a query waits for whole rounds.
    row["candidates"] = math.floor(question.latency * rate / streams) * streams
    if question.candidates is not None:
        row["latency"] = math.ceil(question.candidates / streams) * streams / rate
    return row


@dataclass(frozen=True)
class _Timed:
    """A model that is timed: its engine, what reads a round of pairs, and the bytes of its weights."""

    engine: Engine
    read: Callable[[], Pairs]
    weights: int


def _open(name: str, engine: str, tokens: int) -> _Timed:
    if Path(name).is_dir():
        folder, scorer = Path(name), Scorer.load(name, engine=engine)
        parts = [folder / format_of(engine), folder / TABLES] if is_export(folder) else [model_folder(folder)]
        weights = sum(path.stat().st_size for part in parts for path in part.rglob("*") if path.is_file())
        return _Timed(scorer.engine, made_up_texts(scorer, tokens), weights)
    from zhichun.model.encoder import load_encoder, new_encoder
    from zhichun.model.encoder_settings import plain_config
    from zhichun.model.relevance_model import ModelSettings, RelevanceModel, VocabularySizes
    from zhichun.score.torch_engine import ready_engine

    shape = SHAPES.get(name)
    if shape is None:
        encoder, missing = load_encoder(name), 0
    else:
        encoder = new_encoder(plain_config(**{**shape, "pieces": TIMED_PIECES}, max_length=tokens))
        missing = 4 * (shape["pieces"] - TIMED_PIECES) * shape["hidden"]
    alone = ModelSettings(trigrams=None, country=None, brand=None, color=None)
    model = RelevanceModel(alone, encoder, VocabularySizes(), len(schema.LABELS), LAYOUT).eval()
    weights = missing + sum(weight.nbytes for weight in model.parameters())
    network = ready_engine(model, None, engine)
    pairs = _made_up(_pairs_per_round(network, tokens), min(tokens, encoder.room or tokens))
    return _Timed(network, lambda: pairs, weights)


def made_up_texts(scorer: Scorer, tokens: int) -> Callable[[], Pairs]:
    """Return what reads a round of pairs with about so many tokens, each time of other texts."""
    chance = np.random.default_rng(0)

    def texts(count: int, words: int) -> list[str | None]:
        return [" ".join(chance.choice(WORDS, words)) for _ in range(count)]

    query, words, pairs = "red running shoes", max(1, tokens // 2), _pairs_per_round(scorer.engine, tokens)
    product = scorer.featurizer.products({schema.TITLE: texts(PAIRS, words)})  # whole, where a pair is cut
    rest = tokens - scorer.featurizer.queries([query]).tokens.lengths[0] - scorer.tokenizer.layout.specials
    words = max(1, round(rest / (product.tokens.lengths.mean() / words)))
    locales = [schema.LOCALES[0]] * pairs
    return lambda: scorer.read(PairTexts([query] * pairs, {schema.TITLE: texts(pairs, words)}, locales))


def _pairs_per_round(engine: Engine, tokens: int) -> int:
    """Fill a batch or two for each stream; on a GPU, which reads while it computes, a full batch."""
    if engine.lookahead:
        return max(PAIRS, engine.tokens_per_batch // tokens)
    return PAIRS if engine.pairs_per_batch is None else 2 * PAIRS * engine.streams


def _made_up(pairs: int, tokens: int) -> Pairs:
    query, product = [5] * 3, [5] * max(1, tokens - 3 - LAYOUT.specials)
    nothing = np.zeros(pairs, np.int32)
    products = ProductFeatures(Ragged.from_rows([product]), None, None, None, None)
    queries = QueryFeatures(Ragged.from_rows([query]), None)
    return Pairs(queries, products, nothing, nothing, nothing, LAYOUT, pad_id=1, max_length=tokens)


def scoring_rate(engine: Engine, read: Callable[[], Pairs], seconds: float) -> float:
    """Give pairs per second from texts to logits, after a first round that is not counted."""

    def score() -> int:
        pairs = read()
        predict_with(engine, pairs, np.arange(len(pairs)))
        return len(pairs)

    score()
    done, began = 0, time.perf_counter()
    while not done or time.perf_counter() - began < seconds:
        done += score()
    return done / (time.perf_counter() - began)

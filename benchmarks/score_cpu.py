"""Scoring on a CPU: our engines against sentence-transformers' `CrossEncoder.predict` at its defaults.

    python benchmarks/score_cpu.py sentence-transformers/all-MiniLM-L6-v2 --data ESCI_FOLDER

Fine-tunes the encoder once without side features, so that sentence-transformers can compute the same function: the
same weights become a `CrossEncoder`, and an export in every format. All then score the same pairs from texts, one after
the other, several times over. Training and export are kept in the work folder. Writes
``benchmarks/results/score_cpu.json``. It needs `pip install 'zhichun[train,onnx,bench]'` and a quiet machine.

Legend: ``P`` pairs, ``C`` classes.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cross_encoder
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from esci_arguments import HERE, command, esci_parser, parse_esci, prepared
from machine import circumstances
from sentence_transformers.cross_encoder import CrossEncoder
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from zhichun.core import schema
from zhichun.core.arrays import Int64
from zhichun.core.device import ahead, has_bf16
from zhichun.core.errors import UserError
from zhichun.core.files import write_json
from zhichun.core.tasks import TASKS, Floats
from zhichun.data.dataset import Dataset
from zhichun.data.feature_store import open_pairs
from zhichun.fit.recipe import Recipe
from zhichun.fit.recipes.kdd2022 import task2
from zhichun.fit.train import train
from zhichun.metrics import Judged, MicroF1, nDCG
from zhichun.model.model_folder import TrainedModel
from zhichun.score.engine import RUN_ENGINES, predict_with
from zhichun.score.export.export_folder import FORMATS, ExportConfig
from zhichun.score.export.export_run import export
from zhichun.score.export.exported import choose
from zhichun.score.scorer import Scorer
from zhichun.text.pairs import PairTexts

THEIRS = "sentence-transformers"
LIBRARIES = ("zhichun", "torch", "transformers", "tokenizers", THEIRS, "onnxruntime", "openvino", "nncf", "numpy")
ENGINES = (*RUN_ENGINES, "onnx", "onnx-int8", "openvino", "openvino-bf16", "openvino-int8")
# How many times as fast, and how alike at least: scores in fp32, labels else.
GOALS = {"openvino": 2.3, "openvino-bf16": 4.3, "openvino-int8": 6.5}
SAME_SCORES, SAME_LABELS, SAME_NDCG = 1e-4, {"openvino-bf16": 0.995, "openvino-int8": 0.99}, 0.002
OFF = ["model.trigram_start=random", *(f"model.{part}=null" for part in ("trigrams", "country", "brand", "color"))]
PLAIN = [f"objective.{name}=null" for name in ("second_view", "rdrop", "mixup", "ema")]
CHOSEN = ["model.max_length=256", "train.epochs=4", "train.learning_rate=1e-4", "objective.loss=CrossEntropy"]
WARMED_WITH = 24
AHEAD = 512
REPEATS = 3


@dataclass(frozen=True)
class Texts:
    """Pairs of a dataset as both sides take them."""

    ours: tuple[list[str], dict[str, list[str | None]], list[str]]
    theirs: list[list[str]]

    @classmethod
    def of(cls, dataset: Dataset, rows: Int64, recipe: Recipe) -> "Texts":
        """Take the pairs of ``rows``."""
        products = pq.read_table(dataset.folder / schema.PRODUCTS_FILE).take(pa.array(dataset.product_row[rows]))
        columns = {name: products.column(name).to_pylist() for name in schema.TEXT_COLUMNS}
        queries = dataset.queries.take(dataset.query_row[rows]).to_pylist()
        locales = dataset.column(schema.LOCALE)[rows].tolist()
        return cls((queries, columns, locales), cross_encoder.text_pairs(dataset, rows, recipe).as_pairs())


Score = Callable[[Texts], Floats]


def fine_tuned(recipe: Recipe, data: Path, run: Path) -> Path:
    """Fine-tune once, in a process of its own."""
    if not (run / "model").is_dir():
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            process.submit(train, recipe, data, run, resume=True).result()
    return run


def as_cross_encoder(trained: TrainedModel, recipe: Recipe, folder: Path, device: str | None = None) -> CrossEncoder:
    """Put our weights into the classification model of transformers: its head is ours, a dense layer, tanh, classes.

    Raises
    ------
    UserError
        For an encoder whose classification model has another head.
    """
    config = AutoConfig.from_pretrained(recipe.model.encoder, num_labels=trained.task.outputs, trust_remote_code=False)
    model = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
    state = {
        f"{model.base_model_prefix}.{name}": weight for name, weight in trained.model.encoder.model.state_dict().items()
    }
    dense, classes = {
        "bert": (f"{model.base_model_prefix}.pooler.dense", "classifier"),
        "xlm-roberta": ("classifier.dense", "classifier.out_proj"),
    }.get(config.model_type, ("", ""))
    if not dense:
        raise UserError(f"no classification model of the kind {config.model_type!r} has our head.")
    head = trained.model.head
    state |= {f"{dense}.{name}": weight for name, weight in head[1].state_dict().items()}
    state |= {f"{classes}.{name}": weight for name, weight in head[4].state_dict().items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected, unexpected
    assert not [name for name in missing if "position_ids" not in name], missing
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(recipe.model.encoder, trust_remote_code=False).save_pretrained(folder)
    return CrossEncoder(str(folder), max_length=recipe.model.max_length, device=device, trust_remote_code=False)


def systems(run: Path, folder: Path, theirs: CrossEncoder, engines: list[str]) -> dict[str, Score]:
    """Load what is compared, each as a function from texts to logits ``[P, C]``."""
    ours = {engine: by_ours(run if engine in RUN_ENGINES else folder, engine, "cpu") for engine in engines}
    return {THEIRS: by_theirs(theirs), **ours}


def by_theirs(model: CrossEncoder) -> Score:
    """Let a `CrossEncoder` score, at the defaults of its `predict`."""

    def score(texts: Texts) -> Floats:
        logits_PC: Floats = model.predict(texts.theirs, show_progress_bar=False)
        return logits_PC

    return score


def by_ours(folder: Path, engine: str, device: str) -> Score:
    """Let one of our engines score, reading the texts included."""
    scorer = Scorer.load(folder, device=device, engine=engine)

    def score(texts: Texts) -> Floats:
        queries, columns, locales = texts.ours
        # As `zhichun score` does: on a GPU the next are read meanwhile.
        part = AHEAD if scorer.lookahead else len(queries)
        cuts = [slice(start, start + part) for start in range(0, len(queries), part)]
        read = (
            scorer.read(PairTexts(queries[cut], {name: of[cut] for name, of in columns.items()}, locales[cut]))
            for cut in cuts
        )
        return np.concatenate(
            [predict_with(scorer.engine, pairs, np.arange(len(pairs))) for pairs in ahead(read, scorer.lookahead)]
        )

    return score


def timed(scores: dict[str, Score], texts: Texts, repeats: int) -> dict[str, dict[str, Any]]:
    """Let all score the same pairs in turn, and again; gives each one's pairs per second and its last logits."""
    taken: dict[str, list[float]] = {name: [] for name in scores}
    logits: dict[str, Floats] = {}
    warm = Texts(tuple(_first(part) for part in texts.ours), texts.theirs[:WARMED_WITH])  # type: ignore[arg-type]
    for score in scores.values():
        score(warm)
    for repeat in range(repeats):
        for name, score in scores.items():
            began = time.perf_counter()
            logits[name] = score(texts)
            taken[name].append(time.perf_counter() - began)
            rate = len(texts.theirs) / taken[name][-1]
            print(f"{repeat + 1}/{repeats} {name}: {rate:.1f} pairs/s", flush=True)
    return {
        name: {
            "pairs_per_second": len(texts.theirs) / statistics.median(seconds),
            # Of the runs that stood beside each other, since a machine is not equally fast all the time.
            "times_faster": statistics.median(slow / fast for slow, fast in zip(taken[THEIRS], seconds, strict=True)),
            "seconds": [round(each, 2) for each in seconds],
            "logits": logits[name],
        }
        for name, seconds in taken.items()
    }


def _first(part: Any) -> Any:
    return {name: of[:WARMED_WITH] for name, of in part.items()} if isinstance(part, dict) else part[:WARMED_WITH]


def beside(expected_PC: Floats, found_PC: Floats) -> dict[str, float]:
    """Hold logits against those of sentence-transformers."""
    expected, found = (TASKS["esci"].predict(logits).probabilities for logits in (expected_PC, found_PC))
    assert expected is not None
    assert found is not None
    return {
        "scores_differ": float(np.abs(found - expected).max()),
        "labels_same": float((found.argmax(axis=1) == expected.argmax(axis=1)).mean()),
    }


def judged(dataset: Dataset, rows: Int64, logits_PC: Floats) -> Judged:
    """Put the test pairs' judgements beside what was predicted."""
    prediction = TASKS["esci"].predict(logits_PC)
    assert prediction.probabilities is not None
    return Judged(
        dataset.column(schema.QUERY_ID)[rows],
        dataset.labels[rows],
        scores=prediction.score,
        predictions=prediction.probabilities.argmax(axis=1),
    )


def compare(scores: dict[str, Score], dataset: Dataset, recipe: Recipe, given: argparse.Namespace) -> dict[str, Any]:
    """Time all on the same pairs, and measure all on the test pairs."""
    chance, everything = np.random.default_rng(0), np.arange(len(dataset.labels))
    rows = np.sort(chance.permutation(everything)[: given.pairs or None])
    test = np.flatnonzero(dataset.column(schema.SPLIT) == schema.TEST)[: given.test_pairs or None]
    found = timed(scores, Texts.of(dataset, rows, recipe), given.repeats)
    texts = Texts.of(dataset, test, recipe)
    on_test = {name: score(texts) for name, score in scores.items()}
    reference = judged(dataset, test, on_test[THEIRS])
    for name, figures in found.items():
        run = judged(dataset, test, on_test[name])
        figures |= beside(found[THEIRS]["logits"], figures["logits"])
        figures["on_test"] = beside(on_test[THEIRS], on_test[name]) | {
            "micro_f1": float(MicroF1()(run)),
            "ndcg": float(nDCG()(run)),
            "ndcg_difference": float(nDCG()(run) - nDCG()(reference)),
        }
    for figures in found.values():
        del figures["logits"]
    return {"pairs": {"timed": len(rows), "test": len(test)}, "systems": found}


def parse_arguments() -> argparse.Namespace:
    parser = esci_parser(__doc__)
    parser.add_argument("--run", type=Path, help="a finished run with nothing beside the encoder, to use as it is")
    parser.add_argument("--pairs", type=int, default=0, help="time a sample of so many pairs; all if not given")
    parser.add_argument("--test-pairs", type=int, default=0, help="measure on so many test pairs; all if not given")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument(
        "--engines", nargs="+", choices=ENGINES, help="all, but without hardware bf16 not those in bf16, if not given"
    )
    parser.add_argument("--out", type=Path, default=HERE / "results" / "score_cpu.json")
    return parse_esci(parser)


def _options(arguments: argparse.Namespace) -> list[str]:
    """Name what was not left as it is."""
    options = [f"--pairs {arguments.pairs}"] if arguments.pairs else []
    options += [f"--test-pairs {arguments.test_pairs}"] if arguments.test_pairs else []
    options += [f"--engines {' '.join(arguments.engines)}"] if arguments.engines else []
    return options + ([f"--repeats {arguments.repeats}"] if arguments.repeats != REPEATS else [])


def main() -> None:
    arguments = parse_arguments()
    data, work = prepared(arguments), arguments.work / "score_cpu"
    recipe = task2().with_settings([f"model.encoder={arguments.encoder}", *CHOSEN, *OFF, *PLAIN, *arguments.set])
    run = arguments.run or fine_tuned(recipe, data, work / "run")
    folder = work / "export"
    if not folder.is_dir():
        export(run, list(FORMATS), out=folder, data=data)
    dataset, trained = Dataset.open(data), TrainedModel.load(run / "model")
    pairs = open_pairs(dataset, trained.featurizer, recipe.model.max_length)
    everything = np.arange(len(dataset.labels))
    cross_encoder.require_same_tokens(cross_encoder.text_pairs(dataset, everything, recipe), pairs, everything, recipe)
    theirs = as_cross_encoder(trained, recipe, work / "cross_encoder")
    # In bf16 without units a pair takes seven times as long as in fp32, which says nothing that was not known.
    with_units = [engine for engine in ENGINES if has_bf16() or not engine.endswith("bf16")]
    scores = systems(run, folder, theirs, arguments.engines or with_units)
    measured = compare(scores, dataset, recipe, arguments)
    config = ExportConfig.load(folder)
    result = {
        "what": "scoring on a CPU, against sentence-transformers' CrossEncoder.predict",
        "command": command("score_cpu.py", arguments, _options(arguments)),
        "encoder": arguments.name,
        **circumstances(
            *("zhichun", "torch", "transformers", "tokenizers", THEIRS, "onnxruntime", "openvino", "nncf", "numpy")
        ),
        "max_length": recipe.model.max_length,
        "mean_tokens": float(pairs.lengths.mean()),
        "repeats": arguments.repeats,
        "chosen_by_auto": choose(config, folder),
        "checks_of_the_export": {engine: vars(check) for engine, check in config.checks.items()},
        "goals": {"times_faster": GOALS, "scores_differ": SAME_SCORES, "labels_same": SAME_LABELS, "ndcg": SAME_NDCG},
        **measured,
    }
    write_json(arguments.out, result)
    for system, figures in measured["systems"].items():
        print(f"{system:24s} {figures['times_faster']:5.2f} times, labels {figures['on_test']['labels_same']:.4f}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")

"""Our fine-tuning against what a user would pick otherwise: sentence-transformers' `CrossEncoder`.

Fine-tunes one encoder for the four classes with `zhichun.fit.train.train` and with sentence-transformers'
`CrossEncoder`, on the same pairs, from the same tokens and with the same values, once for each seed, and measures both
on the test pairs. Usage, with the `bench` and `train` extras installed:

    python benchmarks/quality_esci.py sentence-transformers/all-MiniLM-L6-v2 --data ESCI_FOLDER

Each training's outcome is kept in the work folder and not run again, so a run that was killed can be started again.
Writes ``quality_esci.json`` and ``quality_esci.md`` into ``benchmarks/results/``, with ``--whole-recipe``
``quality_esci_whole_recipe``.
"""

import argparse
import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import cross_encoder
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from esci_arguments import HERE, command, esci_parser, parse_esci, prepared
from quality_report import OURS, TEXT_ONLY, THEIRS, WHOLE, WHOLE_ROW, compare, write_report

from zhichun.core import schema
from zhichun.core.files import new_file, write_json
from zhichun.core.tasks import TASKS
from zhichun.data.dataset import Dataset
from zhichun.data.feature_store import open_pairs
from zhichun.data.readers.pair_tables import append_columns
from zhichun.fit.recipe import Recipe
from zhichun.fit.recipes.kdd2022 import baseline
from zhichun.fit.train import make_featurizer, train
from zhichun.measure.evaluate import evaluate

# What a system of ours trains with beside the recipe that all are given.
OWN_SETTINGS = {
    TEXT_ONLY: ["model.trigrams=null", "model.country=null", "model.brand=null", "model.color=null"],
    WHOLE: WHOLE_ROW.settings,
}


@dataclass(frozen=True)
class Comparison:
    """What both systems are given."""

    recipe: Recipe
    given: Sequence[str]
    data: Path
    dataset: Dataset
    training: npt.NDArray[np.int64]
    validation: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]

    @classmethod
    def of(cls, recipe: Recipe, given: Sequence[str], data: Path) -> "Comparison":
        """Part the pairs; refuses texts of which the two systems would read different tokens."""
        recipe = recipe.with_settings(given)
        dataset = Dataset.open(data)
        training, validation = dataset.split(recipe.train.validation_fold)
        test = np.flatnonzero(dataset.column(schema.SPLIT) == "test")
        pairs = open_pairs(dataset, make_featurizer(recipe.model, dataset), recipe.model.max_length)
        for rows in (training, validation, test):
            texts = cross_encoder.text_pairs(dataset, rows, recipe)
            cross_encoder.require_same_tokens(texts, pairs, rows, recipe)
        return cls(recipe, given, data, dataset, training, validation, test)

    def recipe_of(self, system: str, seed: int) -> Recipe:
        """Give a system's recipe; settings given by hand win over the system's own."""
        recipe = self.recipe.with_settings([*OWN_SETTINGS.get(system, ()), *self.given])
        return replace(recipe, train=replace(recipe.train, seed=seed))

    def key(self, system: str) -> str:
        """Hash of all that decides an outcome but the seed."""
        recipe, manifest = self.recipe_of(system, seed=0), (self.data / "manifest.json").read_text("utf-8")
        return hashlib.sha256((json.dumps(recipe.to_json()) + manifest).encode()).hexdigest()[:12]


def run_ours(recipe: Recipe, comparison: Comparison, out: Path) -> float:
    """Train and evaluate as a user does; gives the seconds of training."""
    began = time.monotonic()
    run = train(recipe, comparison.data, out / "run")
    seconds = time.monotonic() - began
    evaluate(run.path, comparison.data, out=out)
    shutil.rmtree(out / "run")
    return seconds


def run_theirs(recipe: Recipe, comparison: Comparison, out: Path) -> float:
    """Train a `CrossEncoder`; leaves the same ``scored.parquet`` as our evaluation."""
    dataset = comparison.dataset
    training, validation, test = (
        cross_encoder.text_pairs(dataset, rows, recipe)
        for rows in (comparison.training, comparison.validation, comparison.test)
    )
    began = time.monotonic()
    model = cross_encoder.fine_tune(recipe, training, validation, out / "trainer")
    seconds = time.monotonic() - began
    prediction = TASKS[recipe.task].predict(cross_encoder.score(model, test))
    judged = dataset.examples.take(pa.array(comparison.test))
    with new_file(out / "scored.parquet") as partial:
        pq.write_table(append_columns(judged, prediction), partial)
    shutil.rmtree(out / "trainer")
    return seconds


def run_once(system: str, comparison: Comparison, seed: int, work: Path) -> Path:
    """Run a system with a seed, unless its outcome is there; gives the outcome's folder."""
    out = work / comparison.key(system) / f"{system}-{seed}"
    if not (out / "outcome.json").is_file():
        shutil.rmtree(out, ignore_errors=True)  # half a training's time would be no time of a training
        out.mkdir(parents=True)
        print(f"{system}, seed {seed}", flush=True)
        # In a process of its own: both sides set up torch and accelerate for all that comes after.
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            run, recipe = run_theirs if system == THEIRS else run_ours, comparison.recipe_of(system, seed)
            seconds = process.submit(run, recipe, comparison, out).result()
        write_json(out / "outcome.json", {"seconds": round(seconds, 1)})
    return out


def parse_arguments() -> argparse.Namespace:
    parser = esci_parser(__doc__)
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--text-only", action="store_true", help="train ours without its embeddings and trigrams too")
    parser.add_argument("--whole-recipe", action="store_true", help="train ours with all of the paper's methods too")
    return parse_esci(parser)


def main() -> None:
    arguments = parse_arguments()
    chosen = ["model.max_length=96", "train.epochs=2", "train.learning_rate=1e-4"]
    start = "model.trigram_start=random"  # as that of the figures on file
    recipe = baseline().with_settings([f"model.encoder={arguments.encoder}", start, *chosen])
    comparison = Comparison.of(recipe, arguments.set, prepared(arguments))
    systems = [OURS, THEIRS, *[TEXT_ONLY] * arguments.text_only, *[WHOLE] * arguments.whole_recipe]
    outcomes: dict[str, list[Path]] = {system: [] for system in systems}
    for seed in arguments.seeds:
        for system in systems:
            outcomes[system].append(run_once(system, comparison, seed, arguments.work / "quality_esci"))
    result = compare(outcomes, arguments.seeds, comparison.recipe, comparison.dataset.manifest)
    result["pairs"] = {part: len(getattr(comparison, part)) for part in ("training", "validation", "test")}
    options = [f"--seeds {' '.join(map(str, arguments.seeds))}"]
    options += ["--text-only"] * arguments.text_only + ["--whole-recipe"] * arguments.whole_recipe
    found = {"encoder": arguments.name, "command": command("quality_esci.py", arguments, options)}
    write_report(result | found, arguments.results)


if __name__ == "__main__":
    main()

"""Targets from raters: the shares that chose each label, beside their majority, smoothed and brought to a temperature.

    python benchmarks/rater_shares.py ENCODER --data chorus
    python benchmarks/rater_shares.py ENCODER --data chorus --at-once 8   # on a GPU that one training leaves idle

Five folds by query, each predicted by models that did not see it. How much the majority is smoothed is chosen for each
fold on three inner folds of the others, with the first seed: the one that foretells the raters' grades best at its own
best temperature, which is fitted to the same grades and kept for all seeds. The shares have such a temperature too, in
a row of their own. Log loss is of each rater's grade; the labels and the order are measured against the majority of the
raters, the least relevant of several, which is also what the smoothed models learn. Pairs that nobody rated are learnt
as they are labelled, and not measured.

`chorus` is the folder that ``CHORUS_DATA`` names; any in the official layout with ``ratings.csv`` will do. Trainings
are kept as those of `quality_lists.py` are. Writes ``benchmarks/results/rater_shares.json``.

Legend: ``P`` judged pairs, ``R`` rated ones, ``G`` grades, one a rater and pair; ``C`` labels.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is there; threads share cores with others

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from esci_arguments import HERE
from list_cells import INNER, Bench, Cell
from list_figures import Judgements, Said, differences, figures
from list_rows import ENCODER_ALONE, MAJORITY, RATERS, Row, soft_labels
from machine import circumstances, command_as_given
from quality_lists import bench_of
from rendered_parts import cells_of, table

from zhichun.core import schema
from zhichun.core.files import write_json
from zhichun.core.tasks import TASKS, softmax
from zhichun.fit.calibrate import best_temperature
from zhichun.metrics import Judged, LogLoss
from zhichun.metrics.agreement import majority

NAMES: Final = ("log_loss", "micro_f1", "macro_f1", "ndcg@10")
SHARES: Final = Row("ours, shares of raters", "ours", (*ENCODER_ALONE, soft_labels(RATERS, 1)))
SMOOTHED: Final = {
    amount: Row(
        f"ours, majority smoothed {amount:g}",
        "ours",
        (
            *ENCODER_ALONE,
            soft_labels(MAJORITY, 1),
            f'objective.loss={{"kind":"CrossEntropy","label_smoothing":{amount or "null"}}}',
        ),
    )
    for amount in (0, 0.05, 0.1, 0.2)
}
OF_SHARES, OF_SHARES_AT = "shares", "shares, temperature"
OF_MAJORITY, OF_MAJORITY_AT = "majority, smoothed", "majority, smoothed, temperature"
FREQUENCY: Final = "frequency of each grade in training"
Rows = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Rated:
    """What is measured against.

    Parameters
    ----------
    bench
        The data.
    """

    bench: Bench

    def __post_init__(self) -> None:
        if not self.bench.votes_PC.any():
            raise SystemExit(f"{self.bench.source}: there is no ratings.csv with grades of the judged pairs")

    @property
    def rows_R(self) -> Rows:
        """The rated pairs among the judged."""
        return np.flatnonzero(self.bench.votes_PC.any(axis=1))

    def query_ids(self, rows: Rows) -> npt.NDArray[Any]:
        """Give the queries of pairs."""
        return np.asarray(self.bench.judged.column(schema.QUERY_ID).to_numpy()[rows])

    def grades_of(self, rows: Rows) -> tuple[Rows, Rows]:
        """Give the grades of pairs: of each its place among them, and what it is, ``[G]``."""
        place_N, label_N = np.nonzero(self.bench.votes_PC[rows])
        times_N = self.bench.votes_PC[rows][place_N, label_N]
        return np.repeat(place_N, times_N), np.repeat(label_N, times_N)

    def figures(self, seeds: Sequence[Said]) -> list[dict[str, float]]:
        """Measure each seed of a system."""
        return [
            figures(said, self._majorities) | {"log_loss": figures(each, self._grades)["log_loss"]}
            for said, each in zip(seeds, self._of_grades(seeds), strict=True)
        ]

    def differences(self, first: Sequence[Said], second: Sequence[Said]) -> dict[str, Any]:
        """Bootstrap over queries the first system minus the second."""
        of_labels = differences(first, second, self._majorities)
        of_grades = differences(self._of_grades(first), self._of_grades(second), self._grades)
        return {name: (of_grades if name == "log_loss" else of_labels)[name] for name in NAMES if name in of_labels}

    @property
    def _majorities(self) -> Judgements:
        return Judgements(self.query_ids(self.rows_R), majority(self.bench.votes_PC[self.rows_R]))

    @property
    def _grades(self) -> Judgements:
        place_G, label_G = self.grades_of(self.rows_R)
        return Judgements(self.query_ids(self.rows_R)[place_G], label_G)

    def _of_grades(self, seeds: Sequence[Said]) -> list[Said]:
        place_G, found = self.grades_of(self.rows_R)[0], []
        for said in seeds:
            assert said.probabilities is not None
            found.append(Said(said.scores[place_G], said.probabilities[place_G]))
        return found


def fitted(rated: Rated, row: Row, fold: int) -> dict[str, float]:
    """Fit a row's temperature to the grades of queries that its models of the inner folds did not see."""
    rows, logits = [], []
    for inner in range(INNER):
        place_P = rated.bench.left_out(fold, inner)
        there_P = rated.bench.fold_P[place_P] != fold
        rows.append(place_P[there_P])
        logits.append(rated.bench.logits(Cell(row, fold, inner, 0))[there_P])
    rows_P, logits_PC = np.concatenate(rows), np.concatenate(logits).astype(np.float64)
    place_G, label_G = rated.grades_of(rows_P)
    query_G, logits_GC = rated.query_ids(rows_P)[place_G], logits_PC[place_G]
    temperature = best_temperature(logits_GC, label_G)

    def loss(at: float) -> float:
        return LogLoss()(Judged(query_G, label_G, probabilities=softmax(logits_GC, at)))

    return {"temperature": temperature, "log_loss": loss(temperature), "log_loss_at_1": loss(1.0)}


def said_by(rated: Rated, seed: int, rows: dict[int, Row], temperatures: dict[int, float] | None = None) -> Said:
    """Put together what the models of each fold, at its temperature, say of the rated pairs of that fold."""
    probabilities_PC = np.zeros(rated.bench.votes_PC.shape)
    for fold, row in rows.items():
        logits_PC = rated.bench.logits(Cell(row, fold, None, seed))
        at = 1.0 if temperatures is None else temperatures[fold]
        probabilities_PC[rated.bench.left_out(fold)] = softmax(logits_PC, at)
    return Said.of(TASKS["esci"].of_probabilities(probabilities_PC[rated.rows_R]))


def by_frequency(rated: Rated) -> Said:
    """Say of every pair how often raters gave each label to those of the other folds."""
    votes_PC, fold_P = rated.bench.votes_PC, rated.bench.fold_P
    shares_FC = np.stack([votes_PC[fold_P != fold].sum(axis=0) for fold in rated.bench.folds]).astype(np.float64)
    shares_FC /= shares_FC.sum(axis=1, keepdims=True)
    return Said.of(TASKS["esci"].of_probabilities(shares_FC[fold_P[rated.rows_R]]))


def compare(bench: Bench, seeds: list[int]) -> dict[str, Any]:
    """Choose on the inner folds, train the chosen, and measure."""
    rated, tries = Rated(bench), [SHARES, *SMOOTHED.values()]
    shares = dict.fromkeys(bench.folds, SHARES)
    inner = [Cell(row, fold, part, 0) for fold in bench.folds for row in tries for part in range(INNER)]
    bench.run([*inner, *(Cell(SHARES, fold, None, seed) for fold in bench.folds for seed in seeds)])
    found = {fold: {row.name: fitted(rated, row, fold) for row in tries} for fold in bench.folds}
    chosen = {
        fold: min(SMOOTHED, key=lambda amount: of[SMOOTHED[amount].name]["log_loss"]) for fold, of in found.items()
    }
    smoothed = {fold: SMOOTHED[amount] for fold, amount in chosen.items()}
    bench.run([Cell(row, fold, None, seed) for fold, row in smoothed.items() for seed in seeds])
    systems = {FREQUENCY: [by_frequency(rated)]}
    for plain, at_best, rows in ((OF_SHARES, OF_SHARES_AT, shares), (OF_MAJORITY, OF_MAJORITY_AT, smoothed)):
        at = {fold: found[fold][row.name]["temperature"] for fold, row in rows.items()}
        systems[plain] = [said_by(rated, seed, rows) for seed in seeds]
        systems[at_best] = [said_by(rated, seed, rows, at) for seed in seeds]
    measured = {name: rated.figures(said) for name, said in systems.items()}
    pairs = (OF_SHARES, OF_MAJORITY_AT), (OF_SHARES_AT, OF_MAJORITY_AT), (OF_SHARES, OF_MAJORITY)
    return {
        "counts": {
            "pairs": len(rated.rows_R),
            "queries": len(np.unique(rated.query_ids(rated.rows_R))),
            "grades": int(bench.votes_PC.sum()),
        },
        "folds": bench.parts,
        "seeds": seeds,
        "chosen": {str(fold): {"smoothing": chosen[fold], "tries": of} for fold, of in found.items()},
        "systems": {
            name: {
                "mean": {key: float(np.mean([one[key] for one in each])) for key in NAMES if key in each[0]},
                "seeds": each,
            }
            for name, each in measured.items()
        },
        "differences": {f"{a} minus {b}": rated.differences(systems[a], systems[b]) for a, b in pairs},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder", help="name or folder of a transformers encoder of the kind of BERT or XLM-R")
    parser.add_argument("--name", help="what the results call it, if not as it is given")
    parser.add_argument("--data", required=True, help="chorus, or a folder in the official layout with ratings.csv")
    parser.add_argument("--folds", type=int, help="to try the script out; what is reported has five")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the recipe for all")
    parser.add_argument("--at-once", type=int, default=1, help="trainings side by side, for a GPU that one leaves idle")
    parser.add_argument("--work", type=Path, default=HERE / "work")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.set_defaults(test=False, only=None)
    arguments = parser.parse_args()
    bench = bench_of(arguments)
    found = compare(bench, arguments.seeds)
    print(table(["", *NAMES], [[name, *cells_of(of["mean"], NAMES)] for name, of in found["systems"].items()]))
    for name, of in found["differences"].items():
        gaps = (f"{key} {gap['mean']:+.4f} ({gap['low']:+.4f} to {gap['high']:+.4f})" for key, gap in of.items())
        print(f"{name}: {'; '.join(gaps)}")
    about = {
        "what": "Shares of raters as targets beside their majority with label smoothing and a temperature",
        "command": command_as_given("rater_shares.py"),
        **circumstances("zhichun", "torch", "transformers", "numpy"),
        "encoder": bench.encoder,
        "data": bench.name,
    }
    write_json(arguments.results / "rater_shares.json", {**about, **found})


if __name__ == "__main__":
    main()

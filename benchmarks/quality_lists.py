"""Ranking and labels over lists, beside sentence-transformers: every query predicted by models that did not see it.

Five folds by query over all judged pairs (the given split is ignored, but for ``--test``). Each side's best is chosen
among as many tries, for each fold on three inner folds of the others. Usage, with the `bench` and `train` extras:

    python benchmarks/quality_lists.py ENCODER --data chorus --screen        # tries on the folds themselves, one seed
    python benchmarks/quality_lists.py ENCODER --data chorus --select        # one seed, all tries on the inner folds
    python benchmarks/quality_lists.py ENCODER --data chorus                 # three seeds, the chosen beside the others

``--data`` is a folder in the official layout, or `chorus` or `esci` for those that ``CHORUS_DATA`` and ``ESCI_DATA``
name. Every training's outcome is kept in ``results/quality_lists`` under what it was trained with, and not made again.
Writes ``quality_lists_LABEL.json`` into ``benchmarks/results``; a screening only prints.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is there; threads share cores with others
os.environ.setdefault("JAX_PLATFORMS", "cpu")  # where JAX is installed too, it would take most of a GPU's memory

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from esci_arguments import HERE
from list_baselines import untrained
from list_cells import INNER, OUTER, Bench, Cell, Held, rated_pairs
from list_figures import LABELLING, NAMES, Judgements, Said, differences, figures
from list_rows import (
    BM25,
    COSINE,
    OURS_TRIES,
    PLAIN,
    RANDOM,
    SHARED,
    THEIRS,
    THEIRS_TRIES,
    TREES,
    Row,
    named,
    with_stack,
    with_trees,
)
from list_stack import stacked
from machine import circumstances, command_as_given
from rendered_parts import cells_of, table

from zhichun.core import schema
from zhichun.core.files import read_json, write_json
from zhichun.core.tasks import TASKS
from zhichun.data.readers.ratings import RatedPairs
from zhichun.fit.recipes.kdd2022 import baseline
from zhichun.fit.stack import SHARE
from zhichun.judgements.agreement import measure_agreement

LIBRARIES = ("zhichun", "torch", "transformers", "sentence-transformers", "numpy")
OURS_BEST, OURS_PAIRS, THEIRS_BEST = "ours at its best", "ours at its best without list parts", "theirs at its best"
THEIRS_STACKED, THEIRS_WITH_TREES = "theirs with our stack on top", "theirs with our trees"
INNER_FOLDS, OTHER_FOLDS = "inner folds", "other folds"
Places = npt.NDArray[np.int64]
Rows = dict[int, tuple[Row, Row]]


def measured(bench: Bench) -> npt.NDArray[np.bool_]:
    """Mark the pairs that are predicted, ``[P]``."""
    return np.isin(bench.fold_P, bench.folds)


def truth_of(bench: Bench) -> Judgements:
    """Give the judgements of the pairs that are predicted."""
    return Judgements.of(bench.judged.filter(measured(bench)))


def said_by(bench: Bench, row: Row, seed: int) -> Said:
    """Put together what a row says of every pair, from the models that did not see its query."""
    return together(bench, dict.fromkeys(bench.folds, (row, row)), seed)


def together(bench: Bench, rows: Rows, seed: int) -> Said:
    """As `said_by`, with one row that ranks and one that classifies for each fold."""
    scores_P, probabilities_PC = np.zeros(bench.judged.num_rows), np.zeros((bench.judged.num_rows, len(schema.LABELS)))
    for fold, (ranks, classifies) in rows.items():
        place_P, said = of_fold(bench, Cell(ranks, fold, None, seed))
        scores_P[place_P] = said.scores
        if classifies.classifies:
            place_P, said = of_fold(bench, Cell(classifies, fold, None, seed))
            probabilities_PC[place_P] = said.probabilities
    there, known = measured(bench), all(row.classifies for _, row in rows.values())
    return Said(scores_P[there], probabilities_PC[there] if known else None)


def of_fold(bench: Bench, cell: Cell) -> tuple[Places, Said]:
    """Give the pairs that a cell leaves out, of an inner one those of the inner fold, and what it says of them."""
    row = cell.row
    if row.side == "trees":
        return of_trees(bench, cell)
    if not row.trained:
        return untrained(bench, row, cell.fold)
    if row.with_trees:
        return of_both(bench, cell)
    if row.stack:
        return of_stack(bench, cell)
    place_P, logits_PC = bench.left_out(cell.fold, cell.inner), bench.logits(cell)
    wanted_P = (bench.fold_P[place_P] == cell.fold) == (cell.inner is None)
    return place_P[wanted_P], said_of(logits_PC[wanted_P])


def said_of(logits_PC: npt.NDArray[np.float32]) -> Said:
    """Read logits: of the labels, or one to rank by."""
    if logits_PC.shape[1] == 1:
        return Said(logits_PC[:, 0].astype(np.float64), None)
    return Said.of(TASKS["esci"].predict(logits_PC))


def of_stack(bench: Bench, cell: Cell) -> tuple[Places, Said]:
    """Put our second stage on the models of the inner folds; an inner fold is predicted by a stage of the others.

    To choose by, the latter is a little too good for the second stage: models of the others have seen that inner fold.
    """
    rows_of, places_of, said_of_fold = [], [], []
    for training in cell.trainings():
        made = TASKS["esci"].predict(bench.logits(training)).probabilities
        assert made is not None
        rows, place_P = (
            Held.of(bench.data(cell.fold)).split(training.inner)[1],
            bench.left_out(cell.fold, training.inner),
        )
        for wanted_P in (bench.fold_P[place_P] != cell.fold, bench.fold_P[place_P] == cell.fold):
            rows_of.append(rows[wanted_P])
            places_of.append(place_P[wanted_P])
            said_of_fold.append(made[wanted_P].astype(np.float64))
    own = range(0, 2 * INNER, 2)  # of each training, what it says of its inner fold, then of the fold
    asked = [part + 1 for part in own] if cell.inner is None else [own[cell.inner]]
    learnt = [(rows_of[part], said_of_fold[part]) for part in own if part not in asked]
    given = [said_of_fold[part] for part in asked]
    prediction = stacked(bench.data(cell.fold), bench.recipe.model.encoder, learnt, rows_of[asked[0]], given)
    return places_of[asked[0]], Said.of(prediction)


def of_trees(bench: Bench, cell: Cell) -> tuple[Places, Said]:
    """Put our second stage on no model at all, taught by the inner folds but the one that is predicted, if one is."""
    held = Held.of(bench.data(cell.fold))
    test = held.split(None)[1]
    parts = {inner: np.setdiff1d(held.split(inner)[1], test) for inner in range(INNER)}
    asked = test if cell.inner is None else parts.pop(cell.inner)
    learnt = [(rows, np.zeros((len(rows), 0))) for rows in parts.values()]
    none, how = [np.zeros((len(asked), 0))], (cell.row.settings, cell.seed)
    prediction = stacked(held.folder, bench.recipe.model.encoder, learnt, asked, none, *how)
    return bench.places(cell.fold, asked), Said.of(prediction)


def of_both(bench: Bench, cell: Cell) -> tuple[Places, Said]:
    """Average a model and the trees, which know nothing of each other."""
    place_P, model = of_fold(bench, replace(cell, row=replace(cell.row, with_trees=False)))
    tree_place_P, trees = of_fold(bench, replace(cell, row=TREES))
    order_P = np.argsort(tree_place_P)[np.argsort(np.argsort(place_P))]
    assert (tree_place_P[order_P] == place_P).all()
    assert trees.probabilities is not None
    assert model.probabilities is not None
    probabilities_PC = (1 - SHARE) * trees.probabilities[order_P] + SHARE * model.probabilities
    return place_P, Said((1 - SHARE) * trees.scores[order_P] + SHARE * model.scores, probabilities_PC)


def select(bench: Bench, tries: Sequence[Row], fold: int, how: str = INNER_FOLDS) -> dict[str, dict[str, float]]:
    """Measure tries on the queries outside of a fold: by its inner folds, or as the trainings of the others left them.

    Models of other folds were trained on this one too: what is chosen for it has seen its labels in that way alone.
    """
    inner = how == INNER_FOLDS
    places = [(fold, part) for part in range(INNER)] if inner else [(of, None) for of in bench.folds if of != fold]
    found = {}
    for row in tries:
        parts = [of_fold(bench, Cell(row, *place, 0)) for place in places]
        judged = bench.judged.take(pa.array(np.concatenate([place_P for place_P, _ in parts])))
        scores_P = np.concatenate([said.scores for _, said in parts])
        given = [said.probabilities for _, said in parts if said.probabilities is not None]
        truth = Judgements.of(judged)
        made, counts = figures(Said(scores_P, np.concatenate(given) if given else None), truth), truth.counts()
        if 2 * counts["queries_ranked"] < counts["queries"]:  # most have no order to be found
            made = {name: value for name, value in made.items() if name in LABELLING}
        found[row.name] = made
    return found


def winners(found: dict[str, dict[str, float]]) -> dict[str, tuple[str, str]]:
    """Choose of each side which row ranks and which classifies; ours is one model, theirs may be two.

    By nDCG@10 and micro-F1; where there is no ranking figure, by micro-F1 and macro-F1.
    """

    def best(tries: Sequence[Row], *by: str) -> str:
        able = [row for row in tries if all(name in found[row.name] for name in by)]
        if not able:
            raise SystemExit("there is nothing to choose from: name rows of both sides, of ours one without list parts")
        return max(able, key=lambda row: sum(found[row.name][name] for name in by)).name

    rows, ranked = named([*found]), any("ndcg@10" in of for of in found.values())
    both = ("ndcg@10", "micro_f1") if ranked else ("micro_f1", "macro_f1")
    theirs, ours = ([row for row in rows if row.side in sides] for sides in (("theirs",), ("ours", "trees")))
    return {
        THEIRS_BEST: (best(theirs, "ndcg@10"), best(theirs, "micro_f1")) if ranked else (best(theirs, *both),) * 2,
        OURS_BEST: (best(ours, *both),) * 2,
        OURS_PAIRS: (best([row for row in ours if not row.lists], *both),) * 2,
    }


def report(bench: Bench, systems: dict[str, list[Said]], reference: str) -> dict[str, Any]:
    """Measure systems: each seed, their means, and differences from one of them."""
    truth, found = truth_of(bench), {}
    for name, seeds in systems.items():
        each = [figures(said, truth) for said in seeds]
        mean = {figure: float(np.mean([one[figure] for one in each])) for figure in NAMES if figure in each[0]}
        found[name] = {"mean": mean, "seeds": each}
    others = [name for name in systems if name != reference]
    against = {name: differences(systems[name], systems[reference], truth) for name in others}
    rated = rated_pairs(bench.source, bench.judged.filter(measured(bench)))
    people = {} if rated is None else {"people": people_of(rated[1])}
    return {"counts": truth.counts(), "systems": found, "reference": reference, "differences": against, **people}


def people_of(rated: RatedPairs) -> dict[str, Any]:
    """Measure the raters against each other, and what their noise lets a model reach, on the rated pairs."""
    found = measure_agreement(rated, draws=400)
    return {key: found[key] for key in ("pairs", "queries", "raters", "ceiling")}


def show(result: dict[str, Any]) -> None:
    """Print figures and differences."""
    rows = [[name, *cells_of(of["mean"], NAMES)] for name, of in result["systems"].items()]
    print(result["counts"], table(["", *NAMES], rows), sep="\n")
    for name, found in result["differences"].items():
        gaps = (f"{key} {of['mean']:+.4f} ({of['low']:+.4f} to {of['high']:+.4f})" for key, of in found.items())
        print(f"{name} minus {result['reference']}: {'; '.join(gaps)}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder", help="name or folder of a transformers encoder of the kind of BERT or XLM-R")
    parser.add_argument("--name", help="what the results call it, if not as it is given")
    parser.add_argument("--data", required=True, help="chorus, esci, or a folder in the official layout")
    parser.add_argument("--label", help="what files of results are called, if not as the data: of another encoder, say")
    parser.add_argument("--test", action="store_true", help="measure on the given test split instead of five folds")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--screen", action="store_true", help="the rows on the folds themselves, with the first seed")
    how = "choose among the tries with one seed, for each fold on its inner folds, or on the other folds at a third"
    what.add_argument("--select", nargs="?", const=INNER_FOLDS, choices=(INNER_FOLDS, OTHER_FOLDS), help=how)
    rows = "rows of a screening, tries of a selection, systems of a comparison; all if not given"
    parser.add_argument("--rows", nargs="+", default=[], metavar="NAME", help=rows)
    parser.add_argument("--folds", type=int, help="of a screening: 2 costs a quarter of 5, and models see half as much")
    parser.add_argument("--only", type=int, metavar="FOLD", help="of a screening: this fold alone, from 0")
    parser.add_argument("--reference", default=THEIRS.name, help="what a screening compares with")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the recipe for all")
    parser.add_argument("--selected", type=Path, help="a selection made on other data or with another encoder")
    parser.add_argument("--at-once", type=int, default=1, help="trainings side by side, for a GPU that one leaves idle")
    parser.add_argument("--work", type=Path, default=HERE / "work")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    arguments = parser.parse_args()
    if (arguments.folds or arguments.only is not None) and not arguments.screen:
        parser.error("--folds and --only are for --screen: what is reported has five folds")
    return arguments


def bench_of(arguments: argparse.Namespace) -> Bench:
    """Open the data."""
    source = Path(os.environ.get(f"{arguments.data.upper()}_DATA", arguments.data))
    if not (source / schema.OFFICIAL_EXAMPLES_FILE).is_file():
        raise SystemExit(f"{source} holds no {schema.OFFICIAL_EXAMPLES_FILE}")
    recipe = baseline().with_settings([f"model.encoder={arguments.encoder}", *SHARED, *arguments.set])
    return Bench(
        name=Path(arguments.data).name,
        source=source,
        recipe=recipe,
        encoder=arguments.name or arguments.encoder,
        work=arguments.work / "quality_lists",
        kept=arguments.results / "quality_lists",
        test=arguments.test,
        parts=arguments.folds or OUTER,
        only=arguments.only,
        at_once=arguments.at_once,
    )


def screen(bench: Bench, rows: list[Row], seeds: list[int], reference: str) -> None:
    """Train rows on the folds themselves and print their figures: to find out, not to report."""
    bench.run([Cell(row, fold, None, seed) for row in rows for seed in seeds for fold in bench.folds])
    systems = {row.name: [said_by(bench, row, seed) for seed in (seeds if row.seeded else seeds[:1])] for row in rows}
    show(report(bench, systems, reference))


def choose(bench: Bench, place: Path, tries: Sequence[Row], how: str) -> None:
    """Train tries with one seed and write which is chosen for each fold."""
    # Ends here, not after the trainings, where a side has nothing to choose from.
    winners({row.name: dict.fromkeys(("ndcg@10", "micro_f1")[: 1 + row.classifies], 0.0) for row in tries})
    parts = range(INNER) if how == INNER_FOLDS else [None]
    bench.run([Cell(row, fold, inner, 0) for fold in bench.folds for row in tries for inner in parts])
    found = {fold: select(bench, tries, fold, how) for fold in bench.folds}
    names = found[0].keys()
    mean = {
        name: {key: float(np.mean([found[fold][name][key] for fold in bench.folds])) for key in found[0][name]}
        for name in names
    }
    chosen = {**{str(fold): winners(found[fold]) for fold in bench.folds}, "all": winners(mean)}
    of_each = {**{str(fold): of for fold, of in found.items()}, "all": mean}
    write_json(place, {"how": how, "data": bench.place.name, "chosen": chosen, "tries": of_each})


def compare(
    bench: Bench, selection: dict[str, Any], seeds: list[int], wanted: Sequence[str], *, same_data: bool
) -> dict[str, Any]:
    """Train the chosen rows beside the others with all seeds and measure them; only some systems, if any are named."""
    bests = (THEIRS_BEST, OURS_BEST, OURS_PAIRS, THEIRS_STACKED, THEIRS_WITH_TREES)
    chosen, best = selection["chosen"], {name: {} for name in bests}
    for fold in bench.folds:
        of = chosen[str(fold) if same_data else "all"]
        for name in (THEIRS_BEST, OURS_BEST, OURS_PAIRS):
            ranks, classifies = named(of[name])
            best[name][fold] = ranks, classifies
        best[THEIRS_STACKED][fold] = (with_stack(named(of[THEIRS_BEST])[1]),) * 2
        best[THEIRS_WITH_TREES][fold] = (with_trees(named(of[THEIRS_BEST])[1]),) * 2
    systems_of: dict[str, Rows] = {
        row.name: dict.fromkeys(bench.folds, (row, row)) for row in (RANDOM, BM25, COSINE, THEIRS, PLAIN)
    } | best
    kept = [name for name in systems_of if not wanted or name in (*wanted, RANDOM.name, BM25.name, THEIRS_BEST)]
    each = [(systems_of[name], fold, seed) for seed in seeds for name in kept for fold in bench.folds]
    bench.run([Cell(row, fold, None, seed) for rows, fold, seed in each for row in rows[fold]])
    systems = {
        name: [together(bench, rows, seed) for seed in (seeds if rows[0][0].seeded else seeds[:1])]
        for name in kept
        for rows in [systems_of[name]]
    }
    about = {"how": selection["how"], "tries": len(selection["tries"]["all"]), "chosen": chosen}
    missing = [name for name in systems_of if name not in kept]
    return {**report(bench, systems, THEIRS_BEST), "selection": about, "seeds": seeds, "not_measured": missing}


def main() -> None:
    arguments = parse_arguments()
    bench = bench_of(arguments)
    label = arguments.label or bench.name
    own = bench.kept / label / "selection.json"
    if arguments.screen:
        rows = named(arguments.rows) if arguments.rows else [RANDOM, BM25, COSINE, *THEIRS_TRIES, *OURS_TRIES]
        return screen(bench, rows, arguments.seeds[:1], arguments.reference)
    if arguments.select:
        tries = named(arguments.rows) if arguments.rows else [*THEIRS_TRIES, *OURS_TRIES]
        return choose(bench, own, tries, arguments.select)
    place = arguments.selected or own
    if not place.is_file():
        raise SystemExit(f"{place}: there is no selection; make it with --select, or name one with --selected")
    same_data, selection = place.parent == own.parent, read_json(place)
    if same_data and selection.get("data", bench.place.name) != bench.place.name:
        raise SystemExit(f"{place}: was made on other data of this name; make it again with --select")
    result = compare(bench, selection, arguments.seeds, arguments.rows, same_data=same_data)
    show(result)
    found = {**circumstances(*LIBRARIES), "encoder": bench.encoder, "data": bench.name}
    found["command"] = command_as_given("quality_lists.py")
    write_json(arguments.results / f"quality_lists_{label}.json", {**found, **result})
    return None


if __name__ == "__main__":
    main()

"""The Pareto front of a known catalogue: how fast each form of a model answers, and what it keeps in quality.

    python benchmarks/catalogue_front.py ENCODER --data ESCI_FOLDER --lists chorus

Speed is measured as `score_catalogue.py` does it, the split form after each number of layers by the side of the whole
model and of sentence-transformers, in one run. Quality is that of the trainings that ``quality_lists.py ENCODER --data
LISTS --screen --rows 'ours, split 4 warmed up' …`` has kept: nothing is trained here, and a form without trainings of
all folds has no quality. Writes ``benchmarks/results/catalogue_front.json``; `render_results.py` draws it.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from esci_arguments import HERE, command, esci_parser, parse_esci, prepared
from list_cells import Bench, Cell
from list_figures import differences, figures
from list_rows import RANDOM, named
from machine import circumstances
from quality_lists import bench_of, said_by, truth_of
from score_catalogue import Requests, from_index, timed, untrained
from score_cpu import OFF, PLAIN, THEIRS, Score, as_cross_encoder, by_ours, by_theirs

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.files import write_json
from zhichun.data.dataset import Dataset, read_parquet
from zhichun.fit.recipe import Recipe
from zhichun.fit.recipes.kdd2022 import task2
from zhichun.score.index.build import build_index

FULL, FIGURES = "Full", ("ndcg", "ndcg@10", "micro_f1", "macro_f1", "log_loss")
# How a form was trained, and what the rows of `quality_lists.py` call that.
TRAINED = {"Product2Query first": " warmed up", "Product2Query first, teacher": " warmed up, taught"}


def speeds(arguments: argparse.Namespace, recipe: Recipe) -> dict[str, Any]:
    """Time every form on the same requests, in turn."""
    dataset, work = Dataset.open(prepared(arguments)), arguments.work / "catalogue_front"
    catalogue = read_parquet(dataset.folder / schema.PRODUCTS_FILE).slice(0, arguments.products or None)
    trained = untrained(recipe, dataset, work / "full")
    scores: dict[str, Score] = {
        THEIRS: by_theirs(as_cross_encoder(trained, recipe, work / "cross_encoder")),
        FULL: by_ours(work / "full", "torch", "cpu"),
    }
    for layers in arguments.layers:
        run, index = work / f"split-{layers}", work / f"index-{layers}"
        split = f'model.interaction={{"kind":"Split","product_layers":{layers}}}'
        untrained(recipe.with_settings([split]), dataset, run)
        build_index(run, catalogue, index, precision="fp16")
        scores[form_of(layers)] = from_index(run, index, "torch")
    return timed(scores, Requests.draw(dataset, catalogue, arguments, recipe))


def form_of(layers: int) -> str:
    """Name a split form."""
    return f"Split after {layers}"


def qualities(bench: Bench, layers: list[int]) -> dict[str, dict[str, Any]]:
    """Measure what was trained: of each way of training and form the mean over its seeds, and what it loses to `Full`.

    A loss is over the seeds that both have.
    """
    found: dict[str, dict[str, Any]] = {}
    truth = truth_of(bench)
    for trained, suffix in TRAINED.items():
        said: dict[str, dict[int, Any]] = {}
        for form, name in ({FULL: "encoder alone"} | {form_of(each): f"split {each}" for each in layers}).items():
            (row,) = named([f"ours, {name}{suffix}"])
            there = [s for s in range(3) if all(bench.path(Cell(row, fold, None, s)).is_file() for fold in bench.folds)]
            said[form] = {seed: said_by(bench, row, seed) for seed in there}
        found[trained] = {}
        for form, seeds in said.items():
            if not seeds:
                continue
            each = [figures(one, truth) for one in seeds.values()]
            of = {name: sum(one[name] for one in each) / len(each) for name in FIGURES}
            both = [seed for seed in seeds if seed in said[FULL]]
            loss = form != FULL and both and differences(*([said[of][s] for s in both] for of in (form, FULL)), truth)
            found[trained][form] = {"seeds": list(seeds), **of, **({"minus_full": loss} if loss else {})}
    return found


def parse_arguments() -> argparse.Namespace:
    parser = esci_parser(__doc__)
    parser.add_argument("--lists", default="chorus", help="the data of the trainings, as `quality_lists.py` names them")
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 3, 4, 5], help="that products go through alone")
    parser.add_argument("--requests", type=int, default=20)
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--products", type=int, default=0, help="index so many products; all if not given")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    return parse_esci(parser)


def main() -> None:
    arguments = parse_arguments()
    recipe = task2().with_settings([f"model.encoder={arguments.encoder}", *OFF, *PLAIN, *arguments.set])
    lists = argparse.Namespace(**vars(arguments) | {"data": arguments.lists, "set": []})
    lists.test, lists.folds, lists.only, lists.at_once = False, None, None, 1
    bench = bench_of(lists)
    quality = qualities(bench, arguments.layers)
    chance = figures(said_by(bench, RANDOM, 0), truth_of(bench))
    result = {
        "what": "The Pareto front of a known catalogue: speed and quality by the number of layers before the split",
        "command": command("catalogue_front.py", arguments, [f"--lists {bench.name} --requests {arguments.requests}"]),
        "encoder": arguments.name,
        **circumstances("zhichun", "torch", "transformers", THEIRS, "numpy"),
        "max_length": recipe.model.max_length,
        "candidates": arguments.candidates,
        "quality_of": {"data": bench.name, "max_length": bench.recipe.model.max_length, **truth_of(bench).counts()},
        "random": chance,
        "quality": quality,
        "speed": speeds(arguments, recipe),
    }
    write_json(arguments.results / "catalogue_front.json", result)
    for trained, forms in quality.items():
        for form, of in forms.items():
            print(f"{trained}, {form}: {result['speed'][form]['times_faster']:.1f} times, nDCG {of['ndcg']:.3f}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")

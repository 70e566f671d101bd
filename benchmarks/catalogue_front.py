"""The Pareto front of a known catalogue: how fast each form of a model answers, and what it keeps in quality.

    python benchmarks/catalogue_front.py ENCODER --data ESCI_FOLDER --lists chorus

Speed is measured as `score_catalogue.py` does it, the split form after each number of layers by the side of the whole
model and of sentence-transformers, in one run; and our second stage by itself, trees and a linear model over an index
of vectors of the encoder as it comes. Quality is that of the trainings that ``quality_lists.py ENCODER
--data LISTS --screen --rows 'ours, split 4 warmed up' …`` has kept: no encoder is trained here, and a form without
trainings of all folds has no quality. Writes ``benchmarks/results/catalogue_front.json``; `render_results.py` draws it.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from esci_arguments import HERE, command, esci_parser, parse_esci, prepared
from list_cells import Bench, Cell
from list_figures import Judgements, Said, differences, figures
from list_rows import RANDOM, TREES, Row, named
from machine import circumstances
from quality_lists import bench_of, said_by, truth_of
from rendered_catalogue import FRONT_FIGURES
from score_catalogue import Requests, from_index, timed, untrained
from score_cpu import OFF, PLAIN, THEIRS, Score, as_cross_encoder, by_ours, by_theirs

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.files import write_json
from zhichun.data.dataset import Dataset, read_parquet
from zhichun.fit.recipe import Recipe
from zhichun.fit.recipes.kdd2022 import task2
from zhichun.fit.stack import stack
from zhichun.score.index.build import build_index
from zhichun.score.stacked import Stack
from zhichun.text.pairs import PairTexts

FULL, STAGE = "Full", "indexed stack"
# How a form was trained, and what the rows of `quality_lists.py` call that.
TRAINED = {"Product2Query first": " warmed up", "Product2Query first, teacher": " warmed up, taught"}
UNTRAINED = "encoder as it comes"


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
    stack([], dataset.folder, work / "stack", similarity=arguments.encoder, overwrite=True)
    build_index(work / "stack", catalogue, work / "index-stack", precision="fp16")
    scores[STAGE] = by_stack(work / "stack", work / "index-stack")
    return timed(scores, Requests.draw(dataset, catalogue, arguments, recipe))


def by_stack(folder: Path, index: Path) -> Score:
    """Let a stack score from an index."""
    scorer = Stack.load(folder, index=index)
    return lambda texts: scorer.predict(scorer.read(PairTexts(*texts.ours))).probabilities


def form_of(layers: int) -> str:
    """Name a split form."""
    return f"Split after {layers}"


def qualities(bench: Bench, layers: list[int]) -> dict[str, dict[str, Any]]:
    """Measure what was trained: each form for each way of training, as far as it is there."""
    forms = {FULL: "encoder alone"} | {form_of(each): f"split {each}" for each in layers}
    truth, found = truth_of(bench), dict[str, dict[str, Any]]()
    best: dict[int, Said] = {}
    for trained, suffix in TRAINED.items():
        said = {form: by_seed(bench, *named([f"ours, {name}{suffix}"])) for form, name in forms.items()}
        whole = {form: {} if form == FULL else said[FULL] for form in forms}
        found[trained] = {form: quality(seeds, whole[form], truth) for form, seeds in said.items() if seeds}
        best = best or said[FULL]  # of the whole models, pre-trained and without a teacher
    alone = {seed: said_by(bench, TREES, seed) for seed in range(3)}
    return found | {UNTRAINED: {STAGE: quality(alone, best, truth)}}


def by_seed(bench: Bench, row: Row) -> dict[int, Said]:
    """Give what a row says with each seed of which there are trainings of all folds."""
    seeds = (s for s in range(3) if all(bench.path(Cell(row, fold, None, s)).is_file() for fold in bench.folds))
    return {seed: said_by(bench, row, seed) for seed in seeds}


def quality(seeds: dict[int, Said], whole: dict[int, Said], truth: Judgements) -> dict[str, Any]:
    """Give means over the seeds, and what is lost to the whole model with the seeds that both have."""
    each = [figures(said, truth) for said in seeds.values()]
    found = {"seeds": list(seeds), **{name: sum(of[name] for of in each) / len(each) for name in FRONT_FIGURES}}
    if both := [seed for seed in seeds if seed in whole]:
        found["minus_full"] = differences([seeds[s] for s in both], [whole[s] for s in both], truth)
    return found


def parse_arguments() -> argparse.Namespace:
    parser = esci_parser(__doc__)
    parser.add_argument("--lists", default="chorus", help="the data of the trainings, as `quality_lists.py` names them")
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 3, 4, 5], help="that products go through alone")
    parser.add_argument("--requests", type=int, default=20)
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--products", type=int, default=0, help="index so many products; all if not given")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.set_defaults(test=False, folds=None, only=None, at_once=1)  # of the trainings
    return parse_esci(parser)


def main() -> None:
    arguments = parse_arguments()
    recipe = task2().with_settings([f"model.encoder={arguments.encoder}", *OFF, *PLAIN, *arguments.set])
    bench = bench_of(argparse.Namespace(**vars(arguments) | {"data": arguments.lists, "set": []}))
    truth, trained = truth_of(bench), qualities(bench, arguments.layers)
    result = {
        "what": "The Pareto front of a known catalogue: speed and quality by the number of layers before the split",
        "command": command("catalogue_front.py", arguments, [f"--lists {bench.name} --requests {arguments.requests}"]),
        "encoder": arguments.name,
        **circumstances("zhichun", "torch", "transformers", THEIRS, "numpy"),
        "max_length": recipe.model.max_length,
        "candidates": arguments.candidates,
        "quality_of": {"data": bench.name, "max_length": bench.recipe.model.max_length, **truth.counts()},
        "random": figures(said_by(bench, RANDOM, 0), truth),
        "quality": trained,
        "speed": speeds(arguments, recipe),
    }
    write_json(arguments.results / "catalogue_front.json", result)
    for way, forms in trained.items():
        for form, of in forms.items():
            print(f"{way}, {form}: {result['speed'][form]['times_faster']:.1f} times, nDCG {of['ndcg']:.3f}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")

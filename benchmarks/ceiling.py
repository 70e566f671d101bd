"""Whether the 95 % interval of the ceiling covers the truth, with ratings simulated from known noise.

    OMP_NUM_THREADS=1 python benchmarks/ceiling.py [--simulations 1000] [--draws 100]

Queries differ in their mix of grades (many have nearly one), as real ones do; raters err as one confusion matrix says,
next grades more often than far ones. The truth is what a model that knows every pair's true grade and the raters' noise
reaches on 50,000 queries that are drawn alike. Each simulation draws its own queries, truths and ratings; those that
are done are kept in `work`, and not done again.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from machine import circumstances, command_as_given

from zhichun.core.files import write_json
from zhichun.metrics.agreement import HUMAN_METRICS, NO_RATING, Ratings
from zhichun.metrics.ceiling import RaterModel, best_possible, ceiling

HERE = Path(__file__).parent
QUERIES, PAIRS, RATERS, GAPS = 80, 15, 3, 0.1
PRIOR = np.array([0.4, 0.1, 0.1, 0.4])
SPREAD = 2.0  # of the mixes of grades: the lower, the more queries have nearly one grade
NOISE = np.array([[0.82, 0.1, 0.05, 0.03], [0.2, 0.5, 0.2, 0.1], [0.08, 0.15, 0.55, 0.22], [0.02, 0.03, 0.1, 0.85]])
MANY = 50_000


def truths(queries: int, generator: np.random.Generator) -> np.ndarray:
    """Draw the true grades of queries that differ in their mix, ``[queries, PAIRS]``."""
    mixes = np.cumsum(generator.dirichlet(SPREAD * PRIOR, size=queries), axis=1)
    return (generator.random((queries, PAIRS, 1)) > mixes[:, None, :-1]).sum(axis=2)


def simulate(seed: int) -> Ratings:
    """Draw ratings; some raters leave pairs out."""
    generator = np.random.default_rng(seed)
    truth = truths(QUERIES, generator).ravel()
    reached = np.cumsum(NOISE, axis=1)[truth][:, None, :-1]
    codes = (generator.random((len(truth), RATERS, 1)) > reached).sum(axis=2)
    codes[generator.random(codes.shape) < GAPS] = NO_RATING
    return Ratings(codes, np.repeat(np.arange(QUERIES), PAIRS))


def known_ceiling() -> dict[str, float]:
    """Measure the model that knows all, on very many queries; pairs without a rating are passed over."""
    generator = np.random.default_rng(2**31)
    model = RaterModel(PRIOR[None], NOISE[None])
    kinds = [(truth, raters) for truth in range(4) for raters in range(1, RATERS + 1)]
    truth = truths(MANY, generator)
    raters = generator.binomial(RATERS, 1 - GAPS, size=truth.shape)
    counts = np.stack([((truth == grade) & (raters == times)).sum(axis=1) for grade, times in kinds], axis=1)
    known = np.eye(4)[[grade for grade, _ in kinds]]
    labels = np.stack([model.majority(times)[0] for _, times in kinds])
    query, kind = np.nonzero(counts)
    best = best_possible(query, counts[query, kind], known[kind], labels[kind], generator)
    return {metric.name: metric(best) for metric in HUMAN_METRICS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--work", type=Path, default=HERE / "work" / "ceiling.jsonl")
    given = parser.parse_args()
    truth = known_ceiling()
    given.work.parent.mkdir(parents=True, exist_ok=True)
    given.work.touch()
    found = [json.loads(line) for line in given.work.read_text("utf-8").splitlines()][: given.simulations]
    with given.work.open("a", encoding="utf-8") as kept:
        for seed in range(len(found), given.simulations):
            one = ceiling(simulate(seed), draws=given.draws, seed=seed)
            found.append({name: asdict(each) for name, each in one.items()})
            kept.write(json.dumps(found[-1]) + "\n")
            kept.flush()
    figures: dict[str, Any] = {}
    for name, value in truth.items():
        intervals = [each[name] for each in found]
        figures[name] = {
            "truth": value,
            "mean": float(np.mean([each["value"] for each in intervals])),
            "mean_width": float(np.mean([each["high"] - each["low"] for each in intervals])),
            "covered": sum(each["low"] <= value <= each["high"] for each in intervals),
            "below_the_interval": sum(value < each["low"] for each in intervals),
        }
    result = {
        "what": "simulations in which the 95 % interval of the ceiling covers the truth",
        "command": command_as_given("ceiling.py"),
        **circumstances("zhichun", "numpy"),
        "data": {"queries": QUERIES, "pairs_of_a_query": PAIRS, "raters": RATERS, "ratings_left_out": GAPS},
        "prior": PRIOR.tolist(),
        "spread": SPREAD,
        "noise": NOISE.tolist(),
        "simulations": given.simulations,
        "draws": given.draws,
        "figures": figures,
    }
    write_json(HERE / "results" / "ceiling.json", result)
    sys.stdout.write(f"{figures}\n")


if __name__ == "__main__":
    main()

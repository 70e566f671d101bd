"""What a second stage adds to a query of 100 candidates on one core: texts, list and trees, without the models.

    python benchmarks/stack_latency.py [--similarity ENCODER]

Products are read beforehand, as a server that has met them; queries are new. Five folds, whose answers are averaged.
Made-up texts of the length of the Shopping Queries Dataset's; nothing depends on what they say. Prints milliseconds of
the process: the median and the fastest tenth of the queries, for the whole and its parts.
"""

import argparse
import time

import numpy as np

from zhichun.core import schema
from zhichun.fit.second_stage import JudgedCandidates, StackSettings, fit_second_stage
from zhichun.score.list_features import Candidates, Corpus
from zhichun.score.similarity import Similarity
from zhichun.text.pairs import PairTexts

QUERIES, EACH, PRODUCTS, FOLDS, CANDIDATES, ASKED = 300, 20, 1000, 5, 100, 200
WORDS = [f"word{number}" for number in range(3000)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--similarity", metavar="ENCODER", help="sentence encoder whose cosines are read too")
    given = parser.parse_args()
    similarity = None if given.similarity is None else Similarity.load(given.similarity)
    random = np.random.default_rng(0)

    def text(words: int) -> str:
        return " ".join(random.choice(WORDS, words))

    products = [(f"{text(15)} {random.integers(1, 99)} inch", text(100), random.choice(WORDS[:80])) for _ in WORDS]

    def of(places: np.ndarray) -> dict[str, list[str | None]]:
        columns = zip(*(products[place] for place in places.tolist()), strict=True)
        return dict(zip((schema.TITLE, schema.BULLETS, schema.BRAND), map(list, columns), strict=True))

    corpus = Corpus.of([[" ".join(product) for product in products]])
    chosen = random.integers(0, PRODUCTS, QUERIES * EACH)
    queries = [query for query in (text(3) for _ in range(QUERIES)) for _ in range(EACH)]
    candidates = Candidates.read(corpus, PairTexts(queries, of(chosen), ["us"] * len(chosen)), (), similarity)
    said, ones = random.dirichlet(np.ones(4), len(chosen)), np.ones(len(chosen))
    labels = np.array([random.choice(4, p=each) for each in said])
    folds = np.repeat(np.arange(QUERIES) % FOLDS, EACH)
    judged = JudgedCandidates(candidates, said, labels, folds, ones)
    stage = fit_second_stage(corpus, judged, StackSettings(), similarity=similarity)
    stage.read(PairTexts(["warm"] * PRODUCTS, of(np.arange(PRODUCTS)), ["us"] * PRODUCTS))  # each product is met once
    taken = []
    for _ in range(ASKED):
        query, columns = text(4), of(random.integers(0, PRODUCTS, CANDIDATES))
        of_models = [random.dirichlet(np.ones(4), CANDIDATES) for _ in range(FOLDS)]
        began = time.process_time()
        read = stage.read(PairTexts([query] * CANDIDATES, columns, ["us"] * CANDIDATES))
        between = time.process_time()
        stage.predict(read, of_models)
        taken.append((time.process_time() - began, between - began, time.process_time() - between))
    for what, seconds in zip(("the whole", "texts", "list and trees"), np.transpose(taken), strict=True):
        print(
            f"{what}: median {1e3 * np.median(seconds):.2f} ms, fastest tenth {1e3 * np.quantile(seconds, 0.1):.2f} ms"
        )


if __name__ == "__main__":
    main()

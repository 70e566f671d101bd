"""What the page of a comparison shows of queries: those that moved most, with the first products of both."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from zhichun.core import schema
from zhichun.core.arrays import Int64
from zhichun.data.dataset.dataset import Dataset
from zhichun.metrics import Judged, RankingMetric

MOST_QUERIES: Final = 10
MOST_PRODUCTS: Final = 10


@dataclass(frozen=True)
class Moved:
    """A query that A ranks better or worse than B: its figures, and the first products of both with their labels."""

    query: str
    locale: str
    a: float
    b: float
    lists: tuple[list[tuple[str, str]], list[tuple[str, str]]]

    @property
    def won(self) -> bool:
        """Whether A ranks better."""
        return self.a > self.b


def moved_most(dataset: Dataset, rows: Int64, metric: RankingMetric, a: Judged, b: Judged) -> list[Moved]:
    """Find the queries that A wins most, then those that it loses most, as `MOST_QUERIES` of each."""
    (queries, of_a), (_, of_b) = metric.per_query(a), metric.per_query(b)
    order = np.argsort(of_b - of_a, kind="stable").tolist()
    won = [place for place in order[:MOST_QUERIES] if of_a[place] > of_b[place]]
    lost = [place for place in order[: -MOST_QUERIES - 1 : -1] if of_a[place] < of_b[place]]
    titles = pq.read_table(dataset.folder / schema.PRODUCTS_FILE, columns=[schema.TITLE]).column(0)
    texts, locales = dataset.queries, dataset.column(schema.LOCALE)[rows]
    found = []
    for place in (*won, *lost):
        of_query = np.flatnonzero(a.query_ids == queries[place])
        shown = titles.take(pa.array(dataset.product_row[rows[of_query]])).to_pylist()
        label_of = [schema.LABELS[code] for code in a.labels[of_query]]
        lists = [
            [(label_of[at], shown[at] or "") for at in _first(each.scores[of_query])]
            for each in (a, b)
            if each.scores is not None
        ]
        text = texts[int(dataset.query_row[rows[of_query[0]]])].as_py()
        where = str(locales[of_query[0]])
        found.append(Moved(text, where, float(of_a[place]), float(of_b[place]), (lists[0], lists[1])))
    return found


def _first(score_R: np.ndarray) -> list[int]:
    """Return the places of the best, without what was not returned."""
    returned = int(np.count_nonzero(~np.isnan(score_R)))
    best: list[int] = np.argsort(-score_R, kind="stable")[: min(MOST_PRODUCTS, returned)].tolist()
    return best

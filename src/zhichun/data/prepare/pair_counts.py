"""Counting the pairs of a dataset folder, and its queries, by everything that tells them apart."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from zhichun.core.schema import JUDGED, LABEL, LOCALE, ORIGIN, QUERY, QUERY_ID, SPLIT, WEIGHT
from zhichun.data.prepare.length_counts import LengthCounts


def count_pairs(examples: pa.Table) -> list[dict[str, Any]]:
    """Count pairs by origin, locale, split and label.

    Parameters
    ----------
    examples
        ``examples.parquet``.

    Returns
    -------
    list of dict
        ``origin``, ``locale``, ``split``, ``label``, ``pairs`` and ``weight`` (the sum of theirs), of what there is.
    """
    names = (ORIGIN, LOCALE, SPLIT, LABEL)
    counted = examples.group_by(list(names)).aggregate([([], "count_all"), (WEIGHT, "sum")])
    keys = ("origin", "locale", "split", "label", "pairs", "weight")
    columns = [*names, "count_all", f"{WEIGHT}_sum"]
    rows = [dict(zip(keys, (row[name] for name in columns), strict=True)) for row in counted.to_pylist()]
    for row in rows:
        row["weight"] = round(row["weight"], 2)
    return sorted(rows, key=lambda row: tuple(row[key] for key in keys[:4]))


class JudgedQueries:
    """The distinct queries that somebody judged products for.

    Parameters
    ----------
    examples
        ``examples.parquet``.

    Attributes
    ----------
    texts : pyarrow.Array
        The queries, each once in its locale, ``[Q]``.
    locales : NDArray[str]
        The locale of each, ``[Q]``.
    """

    def __init__(self, examples: pa.Table) -> None:
        rows = np.flatnonzero(pc.equal(examples.column(ORIGIN), JUDGED).to_numpy())
        ids = examples.column(QUERY_ID).to_numpy()[rows]
        _, first, self._pairs = np.unique(ids, return_index=True, return_counts=True)
        once = examples.select([QUERY, LOCALE, SPLIT]).take(pa.array(rows[first]))
        self.texts: pa.Array = once.column(QUERY).combine_chunks()
        self.locales: npt.NDArray[Any] = np.asarray(once.column(LOCALE).to_pylist(), dtype=str)
        self._splits: npt.NDArray[Any] = np.asarray(once.column(SPLIT).to_pylist(), dtype=str)

    def count(self) -> list[dict[str, Any]]:
        """Count them: ``locale``, ``split`` and ``queries``."""
        counted = pa.table([self.locales, self._splits], ["locale", "split"])
        rows = counted.group_by(["locale", "split"]).aggregate([([], "count_all")]).to_pylist()
        found = [{"locale": row["locale"], "split": row["split"], "queries": row["count_all"]} for row in rows]
        return sorted(found, key=lambda row: (row["locale"], row["split"]))

    def judged_products(self) -> dict[str, Any]:
        """Say how many products are judged for a query, as `LengthCounts.describe` does."""
        counts = LengthCounts()
        counts.add_rows(self.locales, self._pairs)
        return counts.describe()

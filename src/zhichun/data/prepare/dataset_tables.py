"""Writing the tables of a dataset folder: the catalogue, the pairs after all their steps, and what was refused."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from zhichun.core.schema import (
    EXAMPLES_FILE,
    JUDGED,
    LOCALE,
    ORIGIN,
    PRODUCT_COLUMNS,
    PRODUCT_ID,
    PRODUCTS_FILE,
    SPLIT,
    TRAIN,
)
from zhichun.data.prepare.clean_catalogue import PRODUCTS_SCHEMA, append_products, write_products
from zhichun.data.prepare.corrections import Corrections
from zhichun.data.prepare.judged_pairs import EXAMPLES_SCHEMA, CheckedPairs, check_pairs, examples_table
from zhichun.data.prepare.made_pairs import add_made, free_marker
from zhichun.data.prepare.manifest import DatasetCounts
from zhichun.data.prepare.pair_values import PairOptions, read_pairs
from zhichun.data.prepare.steps import MakingStep, Refuse, StepCounts, StepLog
from zhichun.data.readers.rejected import LISTED, REJECTED_FILE, RejectedRows
from zhichun.data.readers.sources import Sources

Progress = Callable[[str, int, int], None]


def write_tables(
    sources: Sources,
    folder: Path,
    options: PairOptions,
    *,
    corrections: Corrections,
    steps: Sequence[MakingStep],
    accept_bad_rows: bool,
    progress: Progress,
) -> tuple[DatasetCounts, RejectedRows]:
    """Write ``products.parquet``, ``examples.parquet`` and ``rejected.parquet``.

    Parameters
    ----------
    sources
        Where products and pairs come from.
    folder
        Where to write.
    options
        How pairs are read.
    corrections
        What is to be corrected in the training pairs.
    steps
        What makes training pairs, in order.
    accept_bad_rows
        Whether to go on after bad rows; otherwise no step makes anything once there is one.
    progress
        Called with the step, how much of it is done and how much there is.

    Returns
    -------
    counts, rejected
        What came of it, and the refused rows.
    """
    with RejectedRows(folder / REJECTED_FILE) as rejected:
        catalogue = write_products(
            sources.products,
            sources.product_columns,
            folder / PRODUCTS_FILE,
            locale=options.locale,
            rejected=rejected,
            progress=partial(progress, "products"),
        )
        refused_products = dict(rejected.counts)
        known = pl.DataFrame(pl.from_arrow(pq.read_table(folder / PRODUCTS_FILE, columns=[PRODUCT_ID, LOCALE])))
        pairs, log = _read(sources, known, options, rejected, partial(progress, "examples"))
        frame, before = pairs.frame, Counter(rejected.counts)
        frame = corrections.apply(frame, log, rejected, options.labels, folder)
        refused_issues = rejected.counts - before
        refused_issues.pop(LISTED, None)
        made_products: dict[str, int] = {}
        if accept_bad_rows or not rejected.bad:
            marker = free_marker(known[PRODUCT_ID])
            frame, made_products = _make(frame, steps, log, folder / PRODUCTS_FILE, marker, progress)
        pq.write_table(examples_table(frame), folder / EXAMPLES_FILE, compression="zstd")
    counts = DatasetCounts(
        catalogue=catalogue,
        refused_products=refused_products,
        made_products=made_products,
        pairs=frame,
        ids=pairs.ids,
        steps=log.counts,
        refused_issues=refused_issues,
    )
    return counts, rejected


def _read(
    sources: Sources,
    products: pl.DataFrame,
    options: PairOptions,
    rejected: RejectedRows,
    progress: Callable[[int, int], None],
) -> tuple[CheckedPairs, StepLog]:
    before = Counter(rejected.counts)
    raw = read_pairs(sources.examples, sources.example_columns, rejected, progress)
    dropped = rejected.counts - before
    read = StepCounts(step="read", read=len(raw) + dropped.total(), dropped=dropped)
    log = StepLog(read, Refuse(raw, rejected, sources.examples.path.name))
    return check_pairs(raw, products, options, log), log


def _make(
    frame: pl.DataFrame, steps: Sequence[MakingStep], log: StepLog, products: Path, marker: str, progress: Progress
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Let each step make pairs of the judged training pairs, and put the products that they need into the catalogue."""
    judged = frame.filter((pl.col(ORIGIN) == JUDGED) & (pl.col(SPLIT) == TRAIN)).select(EXAMPLES_SCHEMA.names)
    tables: dict[str, Any] = {}
    for step in steps:
        made = step.make(judged, products, marker, partial(progress, step.name))
        frame = log.run(step.name, partial(add_made, made=made, origin=step.origin), frame)
        used = frame.filter(pl.col(ORIGIN) == step.origin).select(PRODUCT_ID, LOCALE)
        rows = made.products.join(used, on=[PRODUCT_ID, LOCALE], how="semi", maintain_order="left")
        rows = rows.select(*PRODUCT_COLUMNS, pl.lit(step.origin).alias(ORIGIN))
        tables[step.origin] = rows.to_arrow().cast(PRODUCTS_SCHEMA)
    if tables:
        append_products(products, tables.values())
    return frame, {origin: len(rows) for origin, rows in tables.items()}

"""From a catalogue and judgements to a dataset folder: checked, cleaned, split and counted.

The folder holds ``examples.parquet`` and ``products.parquet`` (the official columns, plus ``fold``, ``weight`` and
``origin``), ``rejected.parquet`` (what was refused and why) and ``manifest.json`` (sources, options and counts). It
holds no times and no paths: the same sources and options give the same bytes.
"""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pyarrow.parquet as pq

from zhichun.data.catalogue import write_products
from zhichun.data.dataset_folder import MANIFEST_FILE, new_dataset_folder
from zhichun.data.folds import check_folds
from zhichun.data.judgements import grade_labels
from zhichun.data.manifest import DatasetCounts, describe_dataset
from zhichun.data.pair_values import PairOptions, read_pairs
from zhichun.data.pairs import EXAMPLES_SCHEMA, check_pairs
from zhichun.data.rejected import REJECTED_FILE, RejectedRows
from zhichun.data.sources import Sources, open_sources
from zhichun.data.vocabularies import write_vocabularies
from zhichun.errors import UserError, suggest
from zhichun.schema import EXAMPLES_FILE, LOCALE, PRODUCT_ID, PRODUCTS_FILE

Progress = Callable[[str, int, int], None]


def prepare(
    source: Path | None,
    out: Path,
    *,
    examples: Path | None = None,
    products: Path | None = None,
    topics: Path | None = None,
    columns: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    locale: str = "us",
    on_bad_rows: Literal["fail", "drop"] = "fail",
    folds: int = 5,
    test_share: float = 0.1,
    min_count_trigram: int = 15,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write a dataset folder.

    Parameters
    ----------
    source
        A folder in the official layout; None if both tables are given.
    out
        The folder to write.
    examples, products
        Tables of one's own: CSV, TSV, JSON Lines or Parquet; judgements also as TREC qrels.
    topics
        Query texts for TREC qrels: an id, a tab and the query on each line.
    columns
        Short or official names to the tables' columns: ``{"query": "search_term", "products.product_id": "sku"}``.
    labels
        Own grades to labels: ``{"3": "E", "2": "S", "1": "C", "0": "I"}``.
    locale
        The locale of rows without one.
    on_bad_rows
        Whether rows that cannot be used stop the work or are left out.
    folds
        How many folds the queries are dealt into.
    test_share
        Share of the queries that are for testing, where the judgements have no split.
    overwrite
        Whether a dataset folder that exists is replaced.
    progress
        Called with the step, how much of it is done and how much there is.

    Returns
    -------
    dict
        The manifest.

    Raises
    ------
    UserError
        If something given cannot be used. If it is rows, their list is left in ``<out>.rejected.parquet``.
    """
    out = out.resolve()
    check_folds(folds)
    _check_options(on_bad_rows, test_share)
    options = PairOptions(labels=grade_labels(labels), locale=locale, folds=folds, test_share=test_share)
    sources = open_sources(source, examples=examples, products=products, topics=topics, columns=columns)
    _check_apart(sources, out)
    given = {
        "columns": dict(columns or {}),
        "labels": dict(labels or {}),
        "locale": locale,
        "on_bad_rows": on_bad_rows,
        "folds": folds,
        "test_share": test_share,
        "min_count_trigram": min_count_trigram,
    }
    listed_in = out.with_name(f"{out.name}.{REJECTED_FILE}")
    with new_dataset_folder(out, overwrite=overwrite) as folder:
        counts = _write_tables(sources, folder, options, progress or _silent)
        if counts.rejected.bad and on_bad_rows == "fail":
            (folder / REJECTED_FILE).replace(listed_in)
            raise counts.rejected.failure(listed_in)
        _require_pairs(counts, sources.examples.path)
        manifest = describe_dataset(sources.files, given, counts)
        manifest["vocabulary"] = write_vocabularies(
            folder / "vocabulary",
            folder / PRODUCTS_FILE,
            folder / EXAMPLES_FILE,
            min_count_trigram=min_count_trigram,
            progress=progress,
        )
        (folder / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", "utf-8")
    listed_in.unlink(missing_ok=True)
    return manifest


def _check_options(on_bad_rows: str, test_share: float) -> None:
    if on_bad_rows not in ("fail", "drop"):
        raise UserError(f"on_bad_rows={on_bad_rows!r} means nothing", remedy=suggest(on_bad_rows, ("fail", "drop")))
    if not 0 <= test_share < 1:
        raise UserError(f"test_share={test_share} is no share", remedy="Give a number from 0 up to, but not, 1.")


def _check_apart(sources: Sources, out: Path) -> None:
    """Refuse to replace a folder with what is made from the files in it."""
    for file in sources.files.values():
        if out.resolve() in file.resolve().parents:
            raise UserError(
                "the dataset would replace the folder of its own source", remedy="Name another folder.", file=out
            )


def _write_tables(sources: Sources, folder: Path, options: PairOptions, report: Progress) -> DatasetCounts:
    with RejectedRows(folder / REJECTED_FILE) as rejected:
        catalogue = write_products(
            sources.products,
            sources.product_columns,
            folder / PRODUCTS_FILE,
            locale=options.locale,
            rejected=rejected,
            progress=partial(report, "products"),
        )
        refused_products = dict(rejected.counts)
        raw = read_pairs(sources.examples, sources.example_columns, rejected, partial(report, "examples"))
        known = pl.DataFrame(pl.from_arrow(pq.read_table(folder / PRODUCTS_FILE, columns=[PRODUCT_ID, LOCALE])))
        pairs = check_pairs(raw, known, options, rejected, sources.examples.path.name)
        pq.write_table(pairs.frame.to_arrow().cast(EXAMPLES_SCHEMA), folder / EXAMPLES_FILE, compression="zstd")
    return DatasetCounts(catalogue=catalogue, refused_products=refused_products, pairs=pairs, rejected=rejected)


def _require_pairs(counts: DatasetCounts, file: Path) -> None:
    if counts.pairs.frame.is_empty():
        reasons = ", ".join(f"{count:,} × {reason}" for reason, count in counts.rejected.counts.most_common())
        raise UserError(
            f"no judged pair is left ({reasons or 'the file holds none'})",
            remedy='on_bad_rows="fail" (--on-bad-rows fail) lists the refused rows.',
            file=file,
        )


def _silent(step: str, done: int, total: int) -> None:
    pass

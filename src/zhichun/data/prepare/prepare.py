"""From a catalogue and judgements to a dataset folder: checked, cleaned, split and counted.

The folder holds ``examples.parquet`` and ``products.parquet`` (the official columns, plus ``fold``, ``weight`` and
``origin``), ``rejected.parquet`` (refused rows and reasons), ``vocabulary/``, ``summary.json`` (figures of the
texts) and ``manifest.json`` (sources, options and the counts of every step). It holds no times and no paths: the same
sources and options give the same bytes.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.files import new_folder, write_json
from zhichun.data.dataset.query_folds import check_folds
from zhichun.data.prepare.clean_catalogue import PRODUCTS_SCHEMA, append_products, write_products
from zhichun.data.prepare.corrections import RELABELLED_FILE, DropListed, Relabel, open_list
from zhichun.data.prepare.judges import SettleJudges, choose_mode
from zhichun.data.prepare.made_pairs import AddMade, free_marker
from zhichun.data.prepare.manifest import describe_dataset
from zhichun.data.prepare.pairs import Clean, MatchProducts, read_pairs
from zhichun.data.prepare.split import DropLeaks, SplitByQuery, number, too_few
from zhichun.data.prepare.steps import MakingStep, Pairs, Refuse
from zhichun.data.prepare.summary import SUMMARY_FILE, summarise
from zhichun.data.prepare.vocabularies import write_vocabularies
from zhichun.data.readers.judgements import grade_labels
from zhichun.data.readers.rejected import REJECTED_FILE, RejectedRows
from zhichun.data.readers.sources import describe_files, open_sources
from zhichun.data.readers.whole_catalogue import OnBadRows, Say, check_on_bad_rows, silent
from zhichun.text.fold import fold_locale

EXAMPLES_SCHEMA: Final = pa.schema(
    [
        (schema.EXAMPLE_ID, pa.int64()),
        (schema.QUERY, pa.string()),
        (schema.QUERY_ID, pa.int64()),
        (schema.PRODUCT_ID, pa.string()),
        (schema.LOCALE, pa.string()),
        (schema.LABEL, pa.string()),
        (schema.SMALL, pa.int64()),
        (schema.LARGE, pa.int64()),
        (schema.SPLIT, pa.string()),
        (schema.FOLD, pa.int8()),
        (schema.WEIGHT, pa.float32()),
        (schema.ORIGIN, pa.string()),
    ]
)
# What is kept of several judges, as they are settled.
_TARGETS: Final = {
    schema.JUDGED_GAIN: pa.field(schema.JUDGED_GAIN, pa.float32()),
    schema.LABEL_SHARES: pa.field(schema.LABEL_SHARES, pa.list_(pa.float32(), len(schema.LABELS))),
}

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
    judges: Literal["majority", "mean", "distribution", "strict"] | None = None,
    locale: str = "us",
    on_bad_rows: OnBadRows = "fail",
    folds: int = 5,
    test_share: float = 0.1,
    drop_issues: Path | None = None,
    relabel: Path | None = None,
    steps: Sequence[MakingStep] = (),
    min_count_trigram: int = 15,
    overwrite: bool = False,
    progress: Progress | None = None,
    say: Say = silent,
    finish: Callable[[Path], object] | None = None,
) -> dict[str, Any]:
    """Write a dataset folder.

    Parameters
    ----------
    source
        A folder in the official layout; None if both tables are given.
    out
        The folder to write.
    examples, products
        Tables of the user's own: CSV, TSV, JSON Lines or Parquet; judgements also as TREC qrels.
    topics
        Query texts for TREC qrels: an id, a tab and the query on each line.
    columns
        Short or official names to the tables' columns: ``{"query": "search_term", "products.product_id": "sku"}``.
    labels
        Grades to labels: ``{"3": "E", "2": "S", "1": "C", "0": "I"}``. Map a grade that means "not judged"
        to ``skip``.
    judges
        How to aggregate several judgements of a pair; see `zhichun.data.prepare.judges`. ``majority`` where the table
        has a column ``judge``, otherwise ``strict``.
    locale
        The locale of rows without one.
    on_bad_rows
        Whether invalid rows are an error or are left out.
    folds
        Number of folds.
    test_share
        Share of test queries, if the judgements have no split.
    drop_issues
        A table with the column ``example_id``: training pairs to leave out.
    relabel
        A table with the columns ``example_id`` and ``new_label``: training pairs to judge otherwise.
    steps
        Steps that make training pairs from judged ones, in order: `zhichun.data.prepare.rebalance.Rebalance`.
    min_count_trigram
        A trigram seen at least this often in the catalogue gets a vector; those of training queries always do.
    overwrite
        Whether to replace an existing dataset folder.
    progress
        Called with (step, done, total).
    say
        Called with lines for the user: which columns are used for what.
    finish
        Called with the folder before it gets its final name, to add derived files.

    Returns
    -------
    dict
        The manifest; ``warnings`` lists what is missing for later commands.

    Raises
    ------
    UserError
        If an input is invalid. Invalid rows are listed in ``<out>.rejected.parquet``.
    """
    out = out.resolve()
    check_folds(folds)
    check_on_bad_rows(on_bad_rows)
    if not 0 <= test_share < 1:
        raise UserError(f"test_share={test_share} is no share", remedy="Give a number from 0 up to, but not, 1.")
    meanings = grade_labels(labels)
    sources = open_sources(source, examples=examples, products=products, topics=topics, columns=columns)
    described = sources.described()
    for line in described:
        say(line)
    mode = choose_mode(judges, schema.JUDGE in sources.example_columns)
    settle = SettleJudges.of(mode, labels, meanings)
    listed = {
        "issues": None if drop_issues is None else open_list(drop_issues, DropListed.columns),
        "relabel": None if relabel is None else open_list(relabel, Relabel.columns),
    }
    files = {**sources.files, **{part: table.path for part, table in listed.items() if table is not None}}
    _check_apart(files, out)
    options = {
        "columns": dict(columns or {}),
        "labels": dict(labels or {}),
        "judges": mode,
        "locale": fold_locale(locale),
        "on_bad_rows": on_bad_rows,
        "folds": folds,
        "test_share": test_share,
        "drop_issues": drop_issues is not None,
        "relabel": relabel is not None,
        "steps": [{"step": step.name, **step.options()} for step in steps],
        "min_count_trigram": min_count_trigram,
    }
    progress = progress or _silent
    with new_folder(out, overwrite=overwrite, replaceable=is_dataset) as folder:
        with RejectedRows(folder / REJECTED_FILE) as rejected:
            catalogue = write_products(
                sources.products,
                sources.product_columns,
                folder / schema.PRODUCTS_FILE,
                locale=locale,
                rejected=rejected,
                progress=partial(progress, "products"),
            )
            refused_products = Counter(rejected.counts)
            raw = read_pairs(sources.examples, sources.example_columns, rejected, partial(progress, "examples"))
            refuse = Refuse(raw, rejected, sources.examples.path.name)
            pairs = Pairs(raw, rejected.counts - refused_products, refuse)
            known = pl.read_parquet(folder / schema.PRODUCTS_FILE, columns=[schema.PRODUCT_ID, schema.LOCALE])

            pairs.take(Clean(label_of=partial(settle.label_of, labels=meanings), locale=locale))
            pairs.take(MatchProducts(products=known))
            pairs.take(SplitByQuery(folds=folds, test_share=test_share))
            pairs.take(settle)
            pairs.take(DropLeaks())
            pairs.frame, ids = number(pairs.frame)
            before = Counter(rejected.counts)
            if (issues := listed["issues"]) is not None:
                pairs.take(DropListed(listed=issues, rejected=rejected))
            if (changes := listed["relabel"]) is not None:
                relabelled = folder / RELABELLED_FILE
                pairs.take(Relabel(listed=changes, rejected=rejected, labels=meanings, out=relabelled))
            refused_corrections = rejected.counts - before
            usable = on_bad_rows == "drop" or not rejected.bad
            made_products = _make(pairs, steps if usable else (), folder / schema.PRODUCTS_FILE, known, progress)
        if not usable:
            raise _refused(rejected, folder, out)
        _require_pairs(pairs, rejected, sources.examples.path)
        columns_kept = EXAMPLES_SCHEMA if settle.column is None else EXAMPLES_SCHEMA.append(_TARGETS[settle.column])
        table = pairs.frame.select(columns_kept.names).to_arrow().cast(columns_kept)
        pq.write_table(table, folder / schema.EXAMPLES_FILE, compression="zstd")
        refused = {"products": refused_products, "corrections": refused_corrections}
        manifest = describe_dataset(describe_files(files), options, catalogue, made_products, pairs, refused, ids)
        manifest["read"] = described
        manifest["warnings"] = too_few(pairs.frame.filter(pl.col(schema.ORIGIN) == schema.JUDGED), folds)
        manifest["vocabulary"] = write_vocabularies(folder, min_count_trigram, progress)
        write_json(folder / schema.MANIFEST_FILE, manifest)
        write_json(folder / SUMMARY_FILE, summarise(folder, progress=progress))
        if finish is not None:
            finish(folder)
    _list_beside(out).unlink(missing_ok=True)
    return manifest


def is_dataset(folder: Path) -> bool:
    """Return whether a folder is a dataset folder."""
    return (folder / schema.MANIFEST_FILE).is_file()


def _make(
    pairs: Pairs, steps: Sequence[MakingStep], products: Path, known: pl.DataFrame, progress: Progress
) -> dict[str, int]:
    """Run the steps that make pairs from judged training pairs, and add their products to the catalogue."""
    frame = pairs.frame
    trained = (
        (pl.col(schema.ORIGIN) == schema.JUDGED) & (pl.col(schema.SPLIT) == schema.TRAIN) & (pl.col(schema.WEIGHT) > 0)
    )
    judged = frame.filter(trained).select(EXAMPLES_SCHEMA.names)
    marker = free_marker(known[schema.PRODUCT_ID]) if steps else ""
    tables: dict[str, Any] = {}
    for step in steps:
        made = step.make(judged, products, marker, partial(progress, step.name))
        pairs.take(AddMade(name=step.name, origin=step.origin, made=made))
        used = pairs.frame.filter(pl.col(schema.ORIGIN) == step.origin).select(schema.PRODUCT_ID, schema.LOCALE)
        rows = made.products.join(used, on=[schema.PRODUCT_ID, schema.LOCALE], how="semi", maintain_order="left")
        rows = rows.select(*schema.PRODUCT_COLUMNS, pl.lit(step.origin).alias(schema.ORIGIN))
        tables[step.origin] = rows.to_arrow().cast(PRODUCTS_SCHEMA)
    if tables:
        append_products(products, tables.values())
    return {origin: len(rows) for origin, rows in tables.items()}


def _check_apart(files: Mapping[str, Path], out: Path) -> None:
    """Refuse to replace a folder that holds the sources."""
    for file in files.values():
        if out.resolve() in file.resolve().parents:
            raise UserError(
                "the dataset would replace the folder of its own source", remedy="Name another folder.", file=out
            )


def _list_beside(out: Path) -> Path:
    return out.with_name(f"{out.name}.{REJECTED_FILE}")


def _refused(rejected: RejectedRows, folder: Path, out: Path) -> UserError:
    """Write the list of refused rows next to the target folder, and return the error."""
    (folder / REJECTED_FILE).replace(_list_beside(out))
    return rejected.failure(_list_beside(out))


def _require_pairs(pairs: Pairs, rejected: RejectedRows, file: Path) -> None:
    if pairs.frame.is_empty():
        reasons = ", ".join(f"{count:,} × {reason}" for reason, count in rejected.counts.most_common())
        raise UserError(
            f"no judged pair is left ({reasons or 'the file holds none'})",
            remedy='on_bad_rows="fail" (--on-bad-rows fail) lists the refused rows.' if rejected.bad else "Judge some.",
            file=file,
        )


def _silent(step: str, done: int, total: int) -> None:
    pass

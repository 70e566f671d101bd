"""From a catalogue and judgements to a dataset folder: checked, cleaned, split and counted.

The folder holds ``examples.parquet`` and ``products.parquet`` (the official columns, plus ``fold``, ``weight`` and
``origin``), ``rejected.parquet`` (what was refused and why), ``vocabulary/``, ``summary.json`` (what the texts are
like) and ``manifest.json`` (sources, options and the counts of every step). It holds no times and no paths: the same
sources and options give the same bytes.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from zhichun.core.errors import UserError
from zhichun.core.files import write_json
from zhichun.core.schema import EXAMPLES_FILE, PRODUCTS_FILE
from zhichun.data.dataset.dataset_folder import MANIFEST_FILE, new_dataset_folder
from zhichun.data.dataset.query_folds import check_folds
from zhichun.data.prepare.corrections import Corrections
from zhichun.data.prepare.dataset_tables import write_tables
from zhichun.data.prepare.manifest import DatasetCounts, describe_dataset
from zhichun.data.prepare.pair_values import PairOptions
from zhichun.data.prepare.steps import MakingStep
from zhichun.data.prepare.summary import SUMMARY_FILE, summarise
from zhichun.data.prepare.vocabularies import write_vocabularies
from zhichun.data.readers.judgements import grade_labels
from zhichun.data.readers.rejected import REJECTED_FILE, RejectedRows
from zhichun.data.readers.sources import open_sources
from zhichun.data.readers.whole_catalogue import OnBadRows, Say, check_on_bad_rows, silent

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
    drop_issues
        A table with the column ``example_id``: training pairs to leave out.
    relabel
        A table with the columns ``example_id`` and ``new_label``: training pairs to judge otherwise.
    steps
        What makes training pairs out of judged ones, in order: `zhichun.data.prepare.rebalance.Rebalance`.
    min_count_trigram
        A trigram seen so often in the catalogue gets a vector; those of training queries always do.
    overwrite
        Whether a dataset folder that exists is replaced.
    progress
        Called with the step, how much of it is done and how much there is.
    say
        Called with lines for the user: which columns are used for what.

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
    check_on_bad_rows(on_bad_rows)
    if not 0 <= test_share < 1:
        raise UserError(f"test_share={test_share} is no share", remedy="Give a number from 0 up to, but not, 1.")
    options = PairOptions(labels=grade_labels(labels), locale=locale, folds=folds, test_share=test_share)
    sources = open_sources(source, examples=examples, products=products, topics=topics, columns=columns)
    described = sources.described()
    for line in described:
        say(line)
    corrections = Corrections.open(drop=drop_issues, relabel_as=relabel)
    files = {**sources.files, **corrections.files}
    _check_apart(files, out)
    given = {
        "columns": dict(columns or {}),
        "labels": dict(labels or {}),
        "locale": locale,
        "on_bad_rows": on_bad_rows,
        "folds": folds,
        "test_share": test_share,
        "drop_issues": drop_issues is not None,
        "relabel": relabel is not None,
        "steps": [{"step": step.name, **step.options()} for step in steps],
        "min_count_trigram": min_count_trigram,
    }
    listed_in = out.with_name(f"{out.name}.{REJECTED_FILE}")
    accept = on_bad_rows == "drop"
    progress = progress or _silent
    with new_dataset_folder(out, overwrite=overwrite) as folder:
        counts, rejected = write_tables(
            sources, folder, options, corrections=corrections, steps=steps, accept_bad_rows=accept, progress=progress
        )
        if rejected.bad and not accept:
            (folder / REJECTED_FILE).replace(listed_in)
            raise rejected.failure(listed_in)
        _require_pairs(counts, rejected, sources.examples.path)
        manifest = describe_dataset(files, given, counts)
        manifest["read"] = described
        manifest["vocabulary"] = write_vocabularies(
            folder / "vocabulary",
            folder / PRODUCTS_FILE,
            folder / EXAMPLES_FILE,
            min_count_trigram=min_count_trigram,
            cleaned=True,
            progress=progress,
        )
        write_json(folder / MANIFEST_FILE, manifest)
        write_json(folder / SUMMARY_FILE, summarise(folder, progress=progress))
    listed_in.unlink(missing_ok=True)
    return manifest


def _check_apart(files: Mapping[str, Path], out: Path) -> None:
    """Refuse to replace a folder with what is made from the files in it."""
    for file in files.values():
        if out.resolve() in file.resolve().parents:
            raise UserError(
                "the dataset would replace the folder of its own source", remedy="Name another folder.", file=out
            )


def _require_pairs(counts: DatasetCounts, rejected: RejectedRows, file: Path) -> None:
    if counts.pairs.is_empty():
        reasons = ", ".join(f"{count:,} × {reason}" for reason, count in rejected.counts.most_common())
        raise UserError(
            f"no judged pair is left ({reasons or 'the file holds none'})",
            remedy='on_bad_rows="fail" (--on-bad-rows fail) lists the refused rows.',
            file=file,
        )


def _silent(step: str, done: int, total: int) -> None:
    pass

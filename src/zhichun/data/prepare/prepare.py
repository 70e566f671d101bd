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
from typing import Any, Final

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

import zhichun
from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.files import new_folder, sha256, write_json
from zhichun.data.dataset import Progress, check_folds, no_progress
from zhichun.data.prepare.clean_catalogue import CleanCatalogue
from zhichun.data.prepare.clean_pairs import clean, match_products
from zhichun.data.prepare.corrections import NEW_LABEL, RELABELLED_FILE, drop_listed, open_list, relabel_listed
from zhichun.data.prepare.judges import Further, Mode, SettleJudges, choose_mode
from zhichun.data.prepare.split import drop_leaks, make_pairs, number, split_by_query, too_few
from zhichun.data.prepare.steps import MakingStep, Pairs, read_rows
from zhichun.data.prepare.summary import SUMMARY_FILE, summarise
from zhichun.data.prepare.vocabularies import write_vocabularies
from zhichun.data.readers.rejected import REJECTED_FILE, OnBadRows, Reason, RejectedRows, Say, check_on_bad_rows, silent
from zhichun.data.readers.sources import EXAMPLES, PRODUCTS, open_sources
from zhichun.text.fold import fold_locale

FORMAT: Final = 1
_TYPES: Final = {
    **dict.fromkeys((schema.EXAMPLE_ID, schema.QUERY_ID, schema.SMALL, schema.LARGE), pa.int64()),
    schema.FOLD: pa.int8(),
    schema.WEIGHT: pa.float32(),
}
_COLUMNS: Final = (*schema.EXAMPLE_COLUMNS, *schema.PREPARED_COLUMNS)
EXAMPLES_SCHEMA: Final = pa.schema([(name, _TYPES.get(name, pa.string())) for name in _COLUMNS])
# What is kept of several judges, as they are settled.
_TARGETS: Final = {
    schema.JUDGED_GAIN: pa.field(schema.JUDGED_GAIN, pa.float32()),
    schema.LABEL_SHARES: pa.field(schema.LABEL_SHARES, pa.list_(pa.float32(), len(schema.LABELS))),
}


def prepare(
    source: Path | None,
    out: Path,
    *,
    examples: Path | None = None,
    products: Path | None = None,
    topics: Path | None = None,
    columns: Mapping[str, str] | None = None,
    keep: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
    judges: Mode | None = None,
    judgements: Sequence[tuple[Path, float]] = (),
    judgements_in_test: bool = False,
    locale: str = "us",
    on_bad_rows: OnBadRows = "fail",
    folds: int = 5,
    test_share: float = 0.1,
    drop_issues: Path | None = None,
    relabel: Path | None = None,
    steps: Sequence[MakingStep] = (),
    min_count_trigram: int = 15,
    overwrite: bool = False,
    progress: Progress = no_progress,
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
    keep
        Further columns of the catalogue to keep as they are, such as those that a stack reads.
    labels
        Grades to labels: ``{"3": "E", "2": "S", "1": "C", "0": "I"}``. Map a grade that means "not judged"
        to ``skip``.
    judges
        How to aggregate several judgements of a pair; see `zhichun.data.prepare.judges`. ``majority`` where the table
        has a column ``judge`` or there are further judgements, otherwise ``strict``.
    judgements
        Further tables of judgements, such as those of `zhichun judge`, each with its weight beside one of ``examples``.
    judgements_in_test
        Whether they may judge pairs of test queries.
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
        Steps that make training pairs from judged ones, in order: `zhichun.data.prepare.making.Rebalance`.
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
    sources = open_sources(source, examples=examples, products=products, topics=topics, columns=columns)
    further = Further.open(judgements, in_test=judgements_in_test)
    described = [*sources.described(keep), *further.described()]
    for line in described:
        say(line)
    mode = choose_mode(judges, bool(judgements) or schema.JUDGE in sources.columns[EXAMPLES])
    settle = SettleJudges.of(mode, labels, [1.0, *further.weights])
    issues = None if drop_issues is None else open_list(drop_issues)
    changes = None if relabel is None else open_list(relabel, NEW_LABEL)
    files = [*sources.files.items(), *(("judgements", path) for path, _ in judgements)]
    files += [(part, file) for part, file in (("issues", drop_issues), ("relabel", relabel)) if file is not None]
    if any(out in file.resolve().parents for _, file in files):
        problem = "the dataset would replace the folder of its own source"
        raise UserError(problem, remedy="Name another folder.", file=out)
    # On refusal, the list of refused rows is all that stays, beside the folder that there is not.
    beside = out.with_name(f"{out.name}.{REJECTED_FILE}")
    judged = sources.tables[EXAMPLES]
    with new_folder(out, overwrite=overwrite, replaceable=is_dataset) as folder:
        with RejectedRows(folder / REJECTED_FILE) as rejected:
            catalogue = CleanCatalogue(sources.tables[PRODUCTS], sources.columns[PRODUCTS], locale, rejected, keep)
            with pq.ParquetWriter(folder / schema.PRODUCTS_FILE, catalogue.schema, compression="zstd") as writer:
                for batch in catalogue.batches(partial(progress, "products")):
                    writer.write_batch(batch)
            refused_products = Counter(rejected.counts)
            raw = read_rows(judged, sources.columns[EXAMPLES], rejected, partial(progress, "examples"))
            raw = further.read(raw, rejected) if judgements else raw
            names = [table.path.name for table in (judged, *further.tables)]
            pairs = Pairs(raw, rejected.counts - refused_products, rejected, *names)
            known = pl.read_parquet(folder / schema.PRODUCTS_FILE, columns=[schema.PRODUCT_ID, schema.LOCALE])

            pairs.take("clean", partial(clean, label_of=settle.label_of, locale=locale))
            pairs.take("match products", partial(match_products, products=known))
            pairs.take("split", partial(split_by_query, folds=folds, test_share=test_share))
            if judgements:
                split_named = schema.SPLIT in sources.columns[EXAMPLES]
                pairs.take("further judgements", partial(further.place, split_named=split_named))
            pairs.take("judges", settle)
            pairs.take("leakage", drop_leaks)
            pairs.frame, ids = number(pairs.frame)
            before = Counter(rejected.counts)
            if issues is not None:
                pairs.take("drop issues", partial(drop_listed, listed=issues, rejected=rejected))
            if changes is not None:
                out_list = folder / RELABELLED_FILE
                step = partial(relabel_listed, listed=changes, rejected=rejected, labels=settle.labels, out=out_list)
                pairs.take("relabel", step)
            refused_corrections = rejected.counts - before
            usable = on_bad_rows == "drop" or not rejected.bad
            made_products = make_pairs(pairs, steps if usable else (), folder / schema.PRODUCTS_FILE, known, progress)
        if not usable:
            raise rejected.failure((folder / REJECTED_FILE).replace(beside))
        _require_pairs(pairs, rejected, judged.path)
        columns_kept = EXAMPLES_SCHEMA if settle.column is None else EXAMPLES_SCHEMA.append(_TARGETS[settle.column])
        table = pairs.frame.select(columns_kept.names).to_arrow().cast(columns_kept)
        pq.write_table(table, folder / schema.EXAMPLES_FILE, compression="zstd")
        manifest = {
            "format": FORMAT,
            "zhichun": zhichun.__version__,
            "sources": [_described(part, file) for part, file in files],
            "options": {
                "columns": dict(columns or {}),
                **({"keep": list(keep)} if keep else {}),
                "labels": dict(labels or {}),
                "judges": mode,
                **({"judgements": list(further.weights), "judgements_in_test": further.in_test} if judgements else {}),
                "locale": fold_locale(locale),
                "on_bad_rows": on_bad_rows,
                "folds": folds,
                "test_share": test_share,
                "drop_issues": drop_issues is not None,
                "relabel": relabel is not None,
                "steps": [{"step": step.name, **step.options()} for step in steps],
                "min_count_trigram": min_count_trigram,
            },
            "products": _products(catalogue, refused_products, made_products),
            "steps": pairs.steps,
            "examples": _examples(pairs, ids),
            "refused_issues": dict(sorted(refused_corrections.items())),
            "read": described,
            "warnings": too_few(pairs.frame, folds),
            "vocabulary": write_vocabularies(folder, min_count_trigram, progress),
        }
        write_json(folder / schema.MANIFEST_FILE, manifest)
        write_json(folder / SUMMARY_FILE, summarise(folder, progress=progress))
        if finish is not None:
            finish(folder)
    beside.unlink(missing_ok=True)
    return manifest


def is_dataset(folder: Path) -> bool:
    """Return whether a folder is a dataset folder."""
    return (folder / schema.MANIFEST_FILE).is_file()


def _require_pairs(pairs: Pairs, rejected: RejectedRows, file: Path) -> None:
    if pairs.frame.is_empty():
        reasons = ", ".join(f"{count:,} × {reason}" for reason, count in rejected.counts.most_common())
        remedy = 'on_bad_rows="fail" (--on-bad-rows fail) lists the refused rows.' if rejected.bad else "Judge some."
        raise UserError(f"no judged pair is left ({reasons or 'the file holds none'})", file=file, remedy=remedy)


def _described(part: str, file: Path) -> dict[str, Any]:
    """Describe a source file, without its folder."""
    return {"part": part, "file": file.name, "bytes": file.stat().st_size, "sha256": sha256(file)}


def _products(catalogue: CleanCatalogue, refused: Mapping[Reason, int], made: Mapping[str, int]) -> dict[str, Any]:
    return {
        **_counts(catalogue.by_locale.total(), refused),
        "made": dict(made),
        "by_locale": dict(sorted(catalogue.by_locale.items())),
        "with_text": dict(catalogue.with_text),
        "missing_words": {name: count for name, count in catalogue.missing_words.items() if count},
    }


def _examples(pairs: Pairs, ids: Mapping[str, str]) -> dict[str, Any]:
    """Count the pairs by what there is to count them by."""

    def by(name: str) -> dict[str, int]:
        return {str(value): count for value, count in pairs.frame.group_by(name).len().sort(name).iter_rows()}

    by_label, by_origin, own = by(schema.LABEL), by(schema.ORIGIN), (schema.JUDGED, schema.ADDED)
    return {
        **_counts(sum(by_origin.get(origin, 0) for origin in own), pairs.dropped),
        "made": {origin: count for origin, count in by_origin.items() if origin not in own},
        "ids": dict(ids),
        "queries": pairs.frame[schema.QUERY_ID].n_unique(),
        "by_locale": by(schema.LOCALE),
        "by_label": {label: by_label.get(label, 0) for label in schema.LABELS},
        "by_split": by(schema.SPLIT),
        "by_fold": by(schema.FOLD),
        "by_origin": by_origin,
    }


def _counts(kept: int, refused: Mapping[Reason, int]) -> dict[str, Any]:
    dropped = {reason: count for reason, count in sorted(refused.items()) if count}
    return {"read": kept + sum(dropped.values()), "kept": kept, "dropped": dropped}

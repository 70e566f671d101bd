"""Pairs that nobody judged, with the labels of a teacher: candidates of real queries, by BM25 and at random.

A student learns them as it learns judged pairs (``origin=teacher``), towards the teacher's probabilities and by their
weight. Queries of the test split, and of what the teacher held out, are in no pool; a training refuses the pool of a
teacher that has seen what the student validates on.

Legend: ``P`` pairs of the pool.
"""

import hashlib
import json
import shlex
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zhichun.core import schema
from zhichun.core.arrays import write_parquet
from zhichun.core.console import Bar, Stages
from zhichun.core.errors import UserError
from zhichun.core.files import in_use, read_json, sha256
from zhichun.data.dataset import Dataset, of_catalogue, product_keys, query_bucket, query_fold, read_parquet
from zhichun.data.predictions import POOL_METADATA, fold_count, held_out_by, is_of_all_folds, require_trained_on
from zhichun.data.readers.sources import PAIRS, match_columns, open_table
from zhichun.fit.run_folder import Folds, folds_of, refuse_readers
from zhichun.score.engine import AUTO
from zhichun.score.folders import EnsembleConfig, fingerprint_of, has_members, is_stack
from zhichun.score.job import ScoringJob
from zhichun.score.scorer import load_scorer
from zhichun.text.bm25 import FirstStage, read_documents
from zhichun.text.clean import clean_text
from zhichun.text.fold import fold_query

AT_RANDOM: Final = 0.25
IN_TEST, HELD_OUT, EMPTY = "in the test split", "in what the teacher held out", "empty"
NO_PRODUCT, TWICE = "of a locale without products", "there twice"
Query = tuple[str, str]


def make_pool(
    run: Path,
    data: Path,
    queries: Path,
    out: Path,
    *,
    per_query: int = 20,
    at_random: float = AT_RANDOM,
    weight: float = 0.5,
    columns: Mapping[str, str] | None = None,
    locale: str = schema.LOCALES[0],
    engine: str = AUTO,
    seed: int = 0,
    shown: bool = True,
) -> dict[str, Any]:
    """Write a table of pairs with a teacher's labels; called again after a kill, it goes on.

    Parameters
    ----------
    run
        The teacher: a run of four classes, or an ensemble of such runs.
    data
        Dataset folder whose catalogue the candidates are from.
    queries
        Table with a column query, and product_locale where there are several locales.
    out
        The table: Parquet.
    per_query
        Candidates of each query; pairs that are judged are not among them.
    at_random
        Share of them that is drawn from the locale's catalogue; the others are the first by BM25.
    weight
        Of each pair in the student's loss; judged pairs have 1.
    columns, locale
        Own column names of the queries, and the locale of those without one.
    engine
        As for `Scorer.load`.
    seed
        Of the draws.
    shown
        Whether to show progress.

    Returns
    -------
    dict
        ``queries`` and ``pairs`` of the pool, ``left_out``: queries by reason, ``held_out``: the teacher's folds, and
        ``next``: the command that trains a student.

    Raises
    ------
    UserError
        For settings out of range, a teacher that does not say what it held out, and queries of which none is left.
    """
    if out.suffix.lower() != ".parquet" or per_query < 1 or not 0 <= at_random <= 1 or not 0 < weight < np.inf:
        problem = "needs a file .parquet, one candidate or more, a share at random from 0 to 1 and a weight above 0."
        raise UserError(f"a pool {problem}", file=out)
    dataset, held_out = Dataset.open(data), held_out_by_teacher(run, data)
    taken, left_out = _chosen(dataset, queries, columns or {}, locale, held_out)
    if not taken:
        reasons = ", ".join(f"{count:,} are {reason}" for reason, count in left_out.items())
        raise UserError(f"no query is left ({reasons}).", file=queries, remedy="Give queries of neither.")
    parts = [run, fingerprint_of(run), engine, sha256(data / schema.MANIFEST_FILE), sha256(queries), per_query]
    key = hashlib.sha256(repr([*parts, at_random, seed, columns, locale, held_out]).encode()).hexdigest()[:16]
    work = out.with_name(f"{out.name}.{key}")
    candidates, scored = work / "candidates.parquet", work / "scored.parquet"
    with in_use(work):
        scorer = None if scored.is_file() else load_scorer(run, engine=engine)
        if scorer is not None and scorer.task.name != "esci":
            raise UserError("a teacher must know the four labels.", file=run, remedy="Give one of the task esci.")
        if not candidates.is_file():
            with Stages("products", shown=shown) as stages:
                drawn = round(per_query * at_random)
                write_parquet(candidates, _candidates(dataset, taken, per_query, drawn, seed, stages))
        if scorer is not None:
            job = ScoringJob(scorer=scorer, pairs=candidates, out=scored, model_fingerprint=key, catalogue=data)
            with Bar("score", "pairs", shown=shown) as bar:
                bar.start(0, job.total())
                job.run(lambda done: bar.advance(done, steps=done))
        table = read_parquet(scored)
        table = table.append_column(schema.WEIGHT, pa.array(np.full(len(table), weight, np.float32)))
        about = {"held_out": held_out, "teacher": str(run), "folds": fold_count(dataset)}
        write_parquet(out, table.replace_schema_metadata({POOL_METADATA: json.dumps(about)}))
        shutil.rmtree(work)
    made = {"queries": len(taken), "pairs": len(table), "left_out": dict(left_out), "held_out": held_out}
    return {**made, "next": _next(run, dataset, out, held_out)}


def _next(run: Path, dataset: Dataset, out: Path, held_out: Folds) -> str:
    """Name the command that trains a student; one run alone has seen most judged pairs, and does not teach them."""
    settings = [f"train.pool={out}", *([] if None in held_out else [f"train.validation_fold={held_out[0]}"])]
    soft = f".predictions={json.dumps([str(run.parent)])}" if is_of_all_folds(run, dataset) else "=null"
    settings.append(f"train.soft_labels{soft}")
    named = ["zhichun", "train", "distil:pooled", "--data", str(dataset.folder), "--out", "STUDENT"]
    return shlex.join([*named, *(word for setting in settings for word in ("--set", setting))])


def held_out_by_teacher(folder: Path, data: Path) -> Folds:
    """Return the folds that a teacher held out, ``None`` for one twentieth; of an ensemble those that all members did.

    Raises
    ------
    UserError
        When there is none, it does not say, was trained on another dataset, whose folds are of other queries, or what
        it learnt from has read what it held out.
    """
    if has_members(folder):  # the trees of a stack have learnt from every fold
        members = [] if is_stack(folder) else EnsembleConfig.load(folder).locate(folder)
        of_members = [held_out_by_teacher(path, data) for path in members] or [[]]
        if common := [fold for fold in of_members[0] if all(fold in other for other in of_members)]:
            return common
        problem = "there is no fold that all of it held out, so a student of it could validate on none."
        raise UserError(problem, file=folder, remedy="Give one of the runs that it was made of.")
    run = next((place for place in (folder, folder.parent) if (place / "recipe.json").is_file()), None)
    if run is None:
        remedy = "Give the run folder itself: a pool must not have the queries that it held out."
        raise UserError("does not say which queries it held out.", file=folder, remedy=remedy)
    require_trained_on(run, data)
    recipe = read_json(run / "recipe.json", {"model": dict, "train": dict})
    refuse_readers(recipe, run, "Give a teacher whose encoder and teachers held out the same queries.")
    return folds_of(held_out_by(run))


def _chosen(
    dataset: Dataset, path: Path, columns: Mapping[str, str], locale: str, held_out: Folds
) -> tuple[list[Query], Counter[str]]:
    """Read the queries, each with its locale, and leave out what a student must not see."""
    table = open_table(path)
    own = match_columns(columns, {PAIRS: table})[PAIRS]
    tested, hidden, folds = _tested(dataset), set(held_out), fold_count(dataset)
    products = read_parquet(dataset.folder / schema.PRODUCTS_FILE, columns=[schema.LOCALE, schema.ORIGIN])
    sold = set(of_catalogue(products).column(schema.LOCALE).unique().to_pylist())
    read = {name: column for name, column in own.items() if name in (schema.QUERY, schema.LOCALE)}
    taken: dict[Query, Query] = {}
    left_out: Counter[str] = Counter()
    for _, texts in table.rows(read, locale):
        text, where = texts[schema.QUERY] or "", texts[schema.LOCALE] or ""
        key = fold_query(text)
        is_held_out = query_fold(key, folds) in hidden or (None in hidden and query_bucket(key) == 0)
        reasons = {EMPTY: not key, IN_TEST: key in tested, HELD_OUT: is_held_out, NO_PRODUCT: where not in sold}
        reasons[TWICE] = (key, where) in taken
        if reason := next((name for name, holds in reasons.items() if holds), None):
            left_out[reason] += 1
        else:
            taken[key, where] = (clean_text(text), where)
    return list(taken.values()), left_out


def _tested(dataset: Dataset) -> set[str]:
    """Return the folded queries of the test split."""
    rows = dataset.column(schema.SPLIT) == schema.TEST
    return {fold_query(query) for query in np.unique(dataset.column(schema.QUERY)[rows]).tolist()}


def _candidates(
    dataset: Dataset, queries: list[Query], per_query: int, drawn: int, seed: int, stages: Stages
) -> pa.Table:
    """Choose the candidates of each query: the first by BM25, then so many at random."""
    products = of_catalogue(read_parquet(dataset.folder / schema.PRODUCTS_FILE))
    rows_of, documents = read_documents(products, stages)
    stage_of = {where: FirstStage(found) for where, found in documents.items()}
    ids = products.column(schema.PRODUCT_ID).combine_chunks()
    judged: dict[Query, set[str]] = {}
    pairs = (dataset.column(name).tolist() for name in (schema.QUERY, schema.LOCALE, schema.PRODUCT_ID))
    for query, where, product in zip(*pairs, strict=True):
        judged.setdefault((fold_query(query), where), set()).add(product)
    found: dict[str, list[str]] = {schema.QUERY: [], schema.LOCALE: [], schema.PRODUCT_ID: []}
    for done, (query, where) in enumerate(queries, start=1):
        stages("candidates", done, len(queries))
        rows, key = rows_of[where], fold_query(query)
        known = judged.get((key, where), set())
        best = [rows[place] for place, _ in stage_of[where].search(query, per_query + len(known))]
        generator = np.random.default_rng([seed, query_bucket(key, 1 << 62)])
        many = min(len(rows), 2 * per_query + len(known))
        others = [rows[place] for place in generator.choice(len(rows), many, replace=False).tolist()]
        chosen: dict[str, None] = {}
        for most, source in ((per_query - drawn, best), (per_query, others)):
            for product in ids.take(pa.array(source, pa.int64())).to_pylist():
                if product not in known and len(chosen) < most:
                    chosen[product] = None
        found[schema.QUERY] += [query] * len(chosen)
        found[schema.LOCALE] += [where] * len(chosen)
        found[schema.PRODUCT_ID] += chosen
    return pa.table(found)


def with_pool(dataset: Dataset, path: Path | None, validation_fold: Sequence[int] | int | None) -> Dataset:
    """Add the pairs of a pool to the training pairs of a dataset in memory.

    Raises
    ------
    UserError
        For a table that `zhichun pool` did not make, a teacher that has seen what is validated on, a query of the test
        split, and judgements that were made one by their mean.
    """
    if path is None:
        return dataset
    table = read_parquet(path)
    about = json.loads((table.schema.metadata or {}).get(POOL_METADATA, b"null"))
    if about is None or about["folds"] != fold_count(dataset):
        raise UserError("is no pool for this dataset.", file=path, remedy="Make one with: zhichun pool")
    if not set(folds_of(validation_fold)) <= set(about["held_out"]):
        raise UserError(
            f"its teacher {about['teacher']} held out the folds {about['held_out']}, not {validation_fold}, which is "
            "validated on: it has seen the judgements there.",
            file=path,
            remedy="Train with the teacher's train.validation_fold, or make a pool with another teacher.",
        )
    examples = dataset.examples
    if schema.JUDGED_GAIN in examples.column_names:
        remedy = "Prepare the dataset with --judges majority or distribution."
        problem = "judgements settled by --judges mean have no shares to learn beside it."
        raise UserError(problem, file=path, remedy=remedy)
    keys = [fold_query(query) for query in table.column(schema.QUERY).to_pylist()]
    if leaked := _tested(dataset).intersection(keys):
        remedy = "Make the pool again with this dataset."
        raise UserError(f"the query {min(leaked)!r} is in the test split.", file=path, remedy=remedy)
    products = read_parquet(dataset.folder / schema.PRODUCTS_FILE, columns=[schema.PRODUCT_ID, schema.LOCALE])
    if not pc.all(pc.is_in(product_keys(table), value_set=product_keys(products))).as_py():
        remedy = "Make the pool again with this dataset."
        raise UserError("holds products that the dataset lacks.", file=path, remedy=remedy)
    if schema.LABEL_SHARES not in examples.column_names:
        one_hot = np.eye(len(schema.LABELS), dtype=np.float32)[dataset.labels]
        examples = examples.append_column(schema.LABEL_SHARES, pa.array(list(one_hot), pa.list_(pa.float32())))
    added = _as_examples(dataset, table, keys).select(examples.column_names).cast(examples.schema)
    return replace(dataset, examples=pa.concat_tables([examples, added]), pool=(sha256(path),))


def _as_examples(dataset: Dataset, table: pa.Table, keys: list[str]) -> pa.Table:
    """Return the pairs of a pool with the columns of a dataset; a query that is judged too keeps its id."""
    shares_PC = np.stack([table.column(name).to_numpy() for name in schema.PROBABILITIES], axis=1).astype(np.float32)
    count, folds = len(table), fold_count(dataset)
    id_of: dict[Query, int] = {}
    pairs = (dataset.column(name).tolist() for name in (schema.QUERY, schema.LOCALE, schema.QUERY_ID))
    for query, where, number in zip(*pairs, strict=True):
        id_of.setdefault((fold_query(query), where), number)
    following = max(id_of.values(), default=-1) + 1
    for key in zip(keys, table.column(schema.LOCALE).to_pylist(), strict=True):
        if id_of.setdefault(key, following) == following:
            following += 1
    first = int(dataset.column(schema.EXAMPLE_ID).max(initial=-1)) + 1
    columns: dict[str, Any] = {
        schema.EXAMPLE_ID: np.arange(first, first + count),
        schema.QUERY: table.column(schema.QUERY),
        schema.QUERY_ID: [id_of[key] for key in zip(keys, table.column(schema.LOCALE).to_pylist(), strict=True)],
        schema.PRODUCT_ID: table.column(schema.PRODUCT_ID),
        schema.LOCALE: table.column(schema.LOCALE),
        schema.LABEL: [schema.LABELS[place] for place in shares_PC.argmax(axis=1)],
        schema.SMALL: np.zeros(count, np.int64),
        schema.LARGE: np.zeros(count, np.int64),
        schema.SPLIT: [schema.TRAIN] * count,
        schema.FOLD: [query_fold(key, folds) for key in keys],
        schema.WEIGHT: table.column(schema.WEIGHT),
        schema.ORIGIN: [schema.TEACHER] * count,
        schema.LABEL_SHARES: pa.array(list(shares_PC), pa.list_(pa.float32())),
    }
    return pa.table(columns)

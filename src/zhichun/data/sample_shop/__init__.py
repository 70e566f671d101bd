"""A made-up shop in the official ESCI layout, in English, Spanish and Japanese.

Products have a type, a brand, a colour and up to three further attributes; queries ask for a type and some of the
others; the labels follow from that by `zhichun.data.sample_shop.judged_pairs.true_labels`. The shares of labels,
locales and empty fields are those of ESCI (Reddy et al., 2022, "Shopping Queries Dataset", arXiv:2206.06588): E 65, S
22, C 3, I 10 %. The words are our own.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from zhichun.core import schema
from zhichun.core.arrays import Int64
from zhichun.core.errors import UserError
from zhichun.core.files import new_folder
from zhichun.data.sample_shop.catalogue import Catalogue, make_catalogue
from zhichun.data.sample_shop.judged_pairs import JudgedPairs, judge
from zhichun.data.sample_shop.texts import LAYOUTS, LocaleTexts, TextLength, write_queries

TRUE_LABELS_FILE: Final = "true_labels.parquet"
TRUE_LABEL: Final = "true_label"

_PRODUCTS_AT_ONCE: Final = 20_000
_PAIRS_AT_ONCE: Final = 200_000

_TEXT: Final = pa.large_string()
_NUMBERS: Final = {schema.EXAMPLE_ID, schema.QUERY_ID, schema.SMALL, schema.LARGE}
_PRODUCTS: Final = pa.schema([(name, _TEXT) for name in schema.PRODUCT_COLUMNS])
_EXAMPLES: Final = pa.schema([(n, pa.int64() if n in _NUMBERS else _TEXT) for n in schema.EXAMPLE_COLUMNS])
_TRUTH: Final = pa.schema([(schema.EXAMPLE_ID, pa.int64()), (TRUE_LABEL, _TEXT)])
_FILES: Final = {
    schema.OFFICIAL_PRODUCTS_FILE: _PRODUCTS,
    schema.OFFICIAL_EXAMPLES_FILE: _EXAMPLES,
    TRUE_LABELS_FILE: _TRUTH,
}


def write_sample_shop(
    folder: Path,
    *,
    products: int = 2000,
    queries: int = 600,
    seed: int = 0,
    candidates: float = 12.0,
    wrong_labels: float = 0.06,
    text: TextLength = "short",
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, int | float]:
    """Write a made-up shop.

    Three files: the two of the official layout, and ``true_labels.parquet`` (``example_id``, ``true_label``) with the
    true label of **every** pair. A share of the judgements is wrong, **in the train split only**, so that the test
    split measures the truth; wrong ones are the pairs whose label is not their true label. The same arguments give the
    same files, byte for byte, under the same versions of numpy and pyarrow.

    Parameters
    ----------
    folder
        Where to write; made where it does not exist.
    products, queries
        How many.
    seed
        Start of all chance.
    candidates
        How many products each query is judged with, on average; ESCI has 20. A shop too small to have enough products
        that suit gives fewer.
    wrong_labels
        Share of the train split's judgements that are wrong.
    text
        ``short`` for texts that a tiny model reads quickly, ``esci`` for texts as long as the official ones.
    overwrite
        Replace a shop that is there.
    progress
        Called with what is done and the whole, in products and pairs.

    Returns
    -------
    dict
        ``products``, ``queries``, ``pairs``, ``wrong_labels``; and for each label, as judged, its share of the pairs:
        ``share_E`` ….

    Raises
    ------
    UserError
        If a number makes no sense, or the folder is not empty, unless it holds a shop that is to be replaced.
    """
    _check_numbers(products, queries, seed, candidates, wrong_labels)
    rng = np.random.Generator(np.random.PCG64(seed))
    catalogue = make_catalogue(products, rng)
    pairs = judge(catalogue, queries, candidates, wrong_labels, rng)
    query_texts = pa.array(write_queries(pairs, rng), _TEXT)

    done, total = 0, products + len(pairs.labels)
    with new_folder(folder, overwrite=overwrite, replaceable=_is_shop) as partial, ExitStack() as files:
        products_file, examples_file, truth_file = (
            files.enter_context(pq.ParquetWriter(partial / name, columns, compression="zstd"))
            for name, columns in _FILES.items()
        )
        for table in _product_tables(catalogue, text, rng):
            products_file.write_table(table)
            done += len(table)
            progress(done, total)
        for start in range(0, len(pairs.labels), _PAIRS_AT_ONCE):
            rows = np.arange(start, min(start + _PAIRS_AT_ONCE, len(pairs.labels)))
            examples_file.write_table(_example_table(rows, pairs, query_texts, catalogue))
            truth_file.write_table(pa.table([rows, _named(schema.LABELS, pairs.truth[rows])], schema=_TRUTH))
            done += len(rows)
            progress(done, total)
    return _summary(catalogue, pairs)


def _check_numbers(products: int, queries: int, seed: int, candidates: float, wrong_labels: float) -> None:
    for name, given, least, most in (
        ("products", products, 60, 50_000_000),
        ("queries", queries, 10, 10_000_000),
        ("seed", seed, 0, 2**63 - 1),
        ("candidates", candidates, 3, 100),
        ("wrong_labels", wrong_labels, 0, 0.5),
    ):
        if not least <= given <= most:
            raise UserError(f"A sample shop with {name} = {given} cannot be made.", remedy=f"Give {least} to {most}.")


def _is_shop(folder: Path) -> bool:
    return {path.name for path in folder.iterdir()} <= _FILES.keys()


def _named(names: tuple[str, ...], places: npt.NDArray[np.integer]) -> Any:
    return pa.array(names, _TEXT).take(pa.array(places))


def _product_tables(catalogue: Catalogue, text: TextLength, rng: np.random.Generator) -> Iterator[Any]:
    writers = [LocaleTexts(locale, text) for locale in schema.LOCALES]
    for start in range(0, len(catalogue.locales), _PRODUCTS_AT_ONCE):
        rows = np.arange(start, min(start + _PRODUCTS_AT_ONCE, len(catalogue.locales)))
        # Rows of one locale and one layout of titles are written together, and put back in order afterwards.
        group = catalogue.locales[rows] * LAYOUTS + rng.integers(LAYOUTS, size=len(rows))
        tables = []
        for number in range(len(schema.LOCALES) * LAYOUTS):
            locale, layout = divmod(number, LAYOUTS)
            members = rows[group == number]
            columns = writers[locale].write(catalogue.attributes[members], layout, rng)
            columns[schema.PRODUCT_ID] = catalogue.product_ids(members)
            columns[schema.LOCALE] = _named(schema.LOCALES, np.full(len(members), locale))
            tables.append(pa.table([columns[name] for name in schema.PRODUCT_COLUMNS], schema=_PRODUCTS))
        yield pa.concat_tables(tables).take(pa.array(np.argsort(np.argsort(group, kind="stable"), kind="stable")))


def _example_table(rows: Int64, pairs: JudgedPairs, query_texts: Any, catalogue: Catalogue) -> Any:
    query_ids = pairs.query_ids[rows]
    columns = {
        schema.EXAMPLE_ID: rows,
        schema.QUERY: query_texts.take(pa.array(query_ids)),
        schema.QUERY_ID: query_ids,
        schema.PRODUCT_ID: catalogue.product_ids(pairs.products[rows]),
        schema.LOCALE: _named(schema.LOCALES, pairs.locales[query_ids]),
        schema.LABEL: _named(schema.LABELS, pairs.labels[rows]),
        schema.SMALL: pairs.hard[query_ids].astype(np.int64),
        schema.LARGE: np.ones_like(rows),
        schema.SPLIT: _named(("train", "test"), pairs.in_test[query_ids].astype(np.int8)),
    }
    return pa.table([columns[name] for name in schema.EXAMPLE_COLUMNS], schema=_EXAMPLES)


def _summary(catalogue: Catalogue, pairs: JudgedPairs) -> dict[str, int | float]:
    by_label = np.bincount(pairs.labels, minlength=len(schema.LABELS)).tolist()
    return {
        "products": len(catalogue.locales),
        "queries": len(pairs.in_test),
        "pairs": len(pairs.labels),
        "wrong_labels": int((pairs.labels != pairs.truth).sum()),
        **{f"share_{name}": n / len(pairs.labels) for name, n in zip(schema.LABELS, by_label, strict=True)},
    }

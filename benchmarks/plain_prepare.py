"""`zhichun prepare` as one would write it first: pandas to read and write, and a Python loop over the rows.

It is what `benchmarks/prepare_scale.py` measures the real one against. It does the same work with the same rules (what
is clean, which fold a query has) and gives equal tables; it has no error messages, counts, resuming or bounded memory.
"""

import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from zhichun.core import schema
from zhichun.data.dataset import query_fold
from zhichun.text.clean import clean_text
from zhichun.text.fold import fold_query
from zhichun.text.vocabulary import normalise

Table = list[dict[str, Any]]


def plain_prepare(source: Path, out: Path) -> None:
    """Write ``products``, ``examples``, ``brands``, ``colors`` and ``trigrams`` as Parquet into a folder."""
    products = clean_products(pd.read_parquet(source / schema.OFFICIAL_PRODUCTS_FILE))
    examples = check_examples(pd.read_parquet(source / schema.OFFICIAL_EXAMPLES_FILE), products)
    out.mkdir(parents=True, exist_ok=True)
    tables = {"products": products, "examples": examples, **vocabularies(products, examples)}
    for name, table in tables.items():
        pd.DataFrame(table).to_parquet(out / f"{name}.parquet", compression="zstd")


def clean_products(table: pd.DataFrame) -> Table:
    """Clean every text, and keep each product once."""
    products, seen = [], set()
    for row in table.itertuples(index=False):
        product = row._asdict()
        key = (product[schema.LOCALE].strip().lower(), product[schema.PRODUCT_ID].strip())
        if not key[1] or key in seen:
            continue
        seen.add(key)
        for name in schema.TEXT_COLUMNS:
            text = product[name]
            product[name] = (clean_text(text) or None) if isinstance(text, str) else None
        product[schema.LOCALE], product[schema.PRODUCT_ID] = key
        products.append(product | {schema.ORIGIN: "catalogue"})
    return products


def check_examples(table: pd.DataFrame, products: Table) -> Table:
    """Clean the queries, and drop what names no product, is there twice, or would leak."""
    known = {(product[schema.LOCALE], product[schema.PRODUCT_ID]) for product in products}
    examples, labels, tested = [], {}, set()
    for row in table.itertuples(index=False):
        example = row._asdict()
        example[schema.QUERY] = clean_text(example[schema.QUERY])
        example[schema.LOCALE] = example[schema.LOCALE].strip().lower()
        example[schema.PRODUCT_ID] = example[schema.PRODUCT_ID].strip()
        place = (example[schema.LOCALE], example[schema.PRODUCT_ID])
        if not example[schema.QUERY] or example[schema.LABEL] not in schema.LABELS or place not in known:
            continue
        labels.setdefault((example[schema.QUERY], *place), set()).add(example[schema.LABEL])
        if example[schema.SPLIT] == "test":
            tested.add(fold_query(example[schema.QUERY]))
        examples.append(example)
    kept, seen = [], set()
    for example in examples:
        query = example[schema.QUERY]
        pair = (query, example[schema.LOCALE], example[schema.PRODUCT_ID])
        leaks = example[schema.SPLIT] == "train" and fold_query(query) in tested
        if len(labels[pair]) > 1 or pair in seen or leaks:
            continue
        seen.add(pair)
        kept.append(example | {schema.FOLD: query_fold(query), schema.WEIGHT: 1.0, schema.ORIGIN: "judged"})
    return kept


def vocabularies(products: Table, examples: Table) -> dict[str, Table]:
    """Count brands, colors and trigrams."""
    made = {}
    for name, column in (("brands", schema.BRAND), ("colors", schema.COLOR)):
        counts = Counter(normalise(product[column]) for product in products if product[column])
        made[name] = by_count({value: count for value, count in counts.items() if value and count >= 2}, "value")
    queries = {example[schema.QUERY] for example in examples if example[schema.SPLIT] == "train"}
    counts = Counter()
    for query in queries:
        counts.update(trigrams(query))
    wanted = set(counts)
    for product in products:
        for name in schema.TEXT_COLUMNS:
            if product[name]:
                counts.update(trigrams(product[name]))
    chosen = {trigram: count for trigram, count in counts.items() if count >= 15 or trigram in wanted}
    return {**made, "trigrams": by_count(chosen, "trigram")}


def by_count(counts: dict[str, int], column: str) -> Table:
    """Order values by count and then by text."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [{column: value, "count": count} for value, count in ordered]


def trigrams(text: str) -> list[str]:
    """Cut a text into the trigrams of its lower case, every sign between words being a space."""
    letters = [letter if is_letter(letter) else " " for letter in text.lower()]
    text = " ".join("".join(letters).split())
    return [text[start : start + 3].strip() for start in range(max(1, len(text) - 2))] if text else []


def is_letter(sign: str) -> bool:
    """Tell a letter, digit or mark from punctuation, symbols, spaces and control characters."""
    return unicodedata.category(sign)[0] not in "PSZC" and sign not in "\ufe0e\ufe0f"

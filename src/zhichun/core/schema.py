"""Names that every part of zhichun agrees on: columns, labels, locales, gains.

The column names are those of the official Shopping Queries Dataset (Reddy et al., 2022), so that its files are read as
they are. This module imports nothing.
"""

from typing import Final

# The judgements: one row per query-product pair.
EXAMPLE_ID: Final = "example_id"
QUERY: Final = "query"
QUERY_ID: Final = "query_id"
PRODUCT_ID: Final = "product_id"
LOCALE: Final = "product_locale"
LABEL: Final = "esci_label"
# Who judged, in the user's own tables; no column of a dataset.
JUDGE: Final = "judge"
SMALL: Final = "small_version"
LARGE: Final = "large_version"
SPLIT: Final = "split"
TRAIN: Final = "train"
TEST: Final = "test"
# Added by `prepare`.
FOLD: Final = "fold"
WEIGHT: Final = "weight"
ORIGIN: Final = "origin"
# Added by `prepare` where several people judged: the mean of their gains, or the share that chose each of `LABELS`.
JUDGED_GAIN: Final = "judged_gain"
LABEL_SHARES: Final = "label_shares"
# Origins of what was not made by a step: pairs that were judged, that only a further source judged, such as an LLM, or
# that a model of ours did; products of the catalogue.
JUDGED: Final = "judged"
ADDED: Final = "added"
TEACHER: Final = "teacher"
CATALOGUE: Final = "catalogue"

# The catalogue: one row per product and locale.
TITLE: Final = "product_title"
DESCRIPTION: Final = "product_description"
BULLETS: Final = "product_bullet_point"
BRAND: Final = "product_brand"
COLOR: Final = "product_color"

EXAMPLE_COLUMNS: Final[tuple[str, ...]] = (EXAMPLE_ID, QUERY, QUERY_ID, PRODUCT_ID, LOCALE, LABEL, SMALL, LARGE, SPLIT)
PREPARED_COLUMNS: Final[tuple[str, ...]] = (FOLD, WEIGHT, ORIGIN)
TEXT_COLUMNS: Final[tuple[str, ...]] = (TITLE, DESCRIPTION, BULLETS, BRAND, COLOR)
PRODUCT_COLUMNS: Final[tuple[str, ...]] = (PRODUCT_ID, *TEXT_COLUMNS, LOCALE)
# Their columns by the short names of fields, in the order of a document.
COLUMN_OF: Final[dict[str, str]] = {
    "title": TITLE,
    "brand": BRAND,
    "color": COLOR,
    "bullets": BULLETS,
    "description": DESCRIPTION,
}

MANIFEST_FILE: Final = "manifest.json"
EXAMPLES_FILE: Final = "examples.parquet"
PRODUCTS_FILE: Final = "products.parquet"
OFFICIAL_EXAMPLES_FILE: Final = "shopping_queries_dataset_examples.parquet"
OFFICIAL_PRODUCTS_FILE: Final = "shopping_queries_dataset_products.parquet"

# Exact, Substitute, Complement, Irrelevant: the order of every probability column.
LABELS: Final[tuple[str, ...]] = ("E", "S", "C", "I")
PROBABILITIES: Final[tuple[str, ...]] = ("p_E", "p_S", "p_C", "p_I")
LABEL_NAMES: Final[dict[str, str]] = {"E": "Exact", "S": "Substitute", "C": "Complement", "I": "Irrelevant"}
LOCALES: Final[tuple[str, ...]] = ("us", "es", "jp")

# Gains of the contest's nDCG. The dataset's published script for trec_eval swaps S and C; figures made
# with it are comparable only with the second preset.
GAINS: Final[dict[str, dict[str, float]]] = {
    "esci": {"E": 1.0, "S": 0.1, "C": 0.01, "I": 0.0},
    "official-script": {"E": 1.0, "S": 0.01, "C": 0.1, "I": 0.0},
}

"""The step that makes training pairs by translation."""

import json

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.data.prepare.clean_catalogue import PRODUCTS_SCHEMA
from zhichun.data.prepare.making import Translation, read_direction


class Reversal:
    """A translator that turns texts round and remembers what it was asked."""

    licence = "none"

    def __init__(self, name="reversal"):
        self.name, self.asked = name, []

    def __call__(self, texts):
        self.asked += texts
        return [text[::-1] for text in texts]


def test_directions_are_read_and_locales_named():
    assert read_direction("es:en") == ("es", "en")
    assert read_direction("jp:us") == ("ja", "en")
    assert Translation(translate=Reversal(), source="ja", target="es").locales == ("jp", "es")
    assert Translation(translate=Reversal()).locales == ("es", "us")
    for wrong in ("es", "es:", "us:en", "es:en:fr", ""):
        with pytest.raises(UserError, match="not a translation direction"):
            read_direction(wrong)


@pytest.fixture
def catalogue(tmp_path):
    """Three Spanish products, one without a title, and an English one with the id of a Spanish one."""
    rows = [
        {"product_id": "A", "product_title": "zapatos", "product_brand": "Ñu", "product_description": "para correr"},
        {"product_id": "B", "product_title": None, "product_brand": "Ñu"},
        {"product_id": "C", "product_title": "taza", "product_color": "rojo"},
        {"product_id": "C", "product_title": "mug", "product_locale": "us"},
    ]
    pq.write_table(
        pa.Table.from_pylist([{schema.LOCALE: "es", **row} for row in rows], PRODUCTS_SCHEMA),
        tmp_path / "products.parquet",
    )
    return tmp_path / "products.parquet"


def judged(*rows):
    columns = (schema.EXAMPLE_ID, schema.QUERY, schema.PRODUCT_ID, schema.LOCALE)
    return pl.DataFrame(rows, schema=columns, orient="row")


def test_pairs_of_the_source_locale_are_made_anew_in_the_target_locale(catalogue):
    pairs = judged((7, "rojos", "A", "es"), (8, "red", "C", "us"), (9, "azul", "C", "es"), (10, "azul", "A", "es"))
    translator, seen = Reversal(), []
    made = Translation(translate=translator).make(pairs, catalogue, "~", lambda *step: seen.append(step))
    assert made.pairs.to_dict(as_series=False) == {
        schema.EXAMPLE_ID: [7, 9, 10],
        schema.QUERY: ["sojor", "luza", "luza"],
        schema.PRODUCT_ID: ["A~es-us", "C~es-us", "A~es-us"],
        schema.LOCALE: ["us"] * 3,
        schema.WEIGHT: pytest.approx([0.3] * 3),
    }
    assert made.products.columns == list(schema.PRODUCT_COLUMNS)
    shown = made.products.select(schema.PRODUCT_ID, schema.TITLE, schema.BRAND, schema.LOCALE).rows()
    # The brand is a name; color, bullets and description would still be Spanish.
    assert shown == [("A~es-us", "sotapaz", "Ñu", "us"), ("C~es-us", "azat", None, "us")]
    assert made.products.select(schema.DESCRIPTION, schema.COLOR).null_count().row(0) == (2, 2)
    assert sorted(translator.asked) == ["azul", "rojos", "taza", "zapatos"]
    assert seen == [(4, 4)]


def test_a_pair_without_a_title_or_a_translation_is_not_made(catalogue):
    class Silent(Reversal):
        def __call__(self, texts):
            return ["" if text in ("nada", "taza") else " <b>x</b>  y " for text in texts]

    pairs = judged((1, "q", "A", "es"), (2, "nada", "A", "es"), (3, "q", "B", "es"), (4, "q", "C", "es"))
    made = Translation(translate=Silent()).make(pairs, catalogue, "~", lambda *_: None)
    assert made.pairs.select(schema.EXAMPLE_ID, schema.QUERY).rows() == [(1, "x y")]
    assert made.products[schema.PRODUCT_ID].to_list() == ["A~es-us"]


def test_without_pairs_of_the_locale_nothing_is_made(catalogue):
    made = Translation(translate=Reversal()).make(judged((8, "red", "C", "us")), catalogue, "~", lambda *_: None)
    assert (len(made.pairs), len(made.products)) == (0, 0)


def test_the_manifest_records_direction_translator_and_licence():
    assert json.loads(json.dumps(Translation(translate=Reversal()).options())) == {
        "direction": "es:en",
        "translator": "reversal",
        "licence": "none",
        "weight": 0.3,
    }

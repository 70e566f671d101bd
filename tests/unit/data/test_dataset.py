"""Reading a dataset folder: what is in it, and what is said when it is damaged."""

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.data.dataset import Dataset
from zhichun.text.pairs import COUNTRIES


@pytest.fixture
def folder(tiny_dataset, tmp_path):
    """A copy that may be damaged."""
    return shutil.copytree(tiny_dataset, tmp_path / "data", ignore=shutil.ignore_patterns("features", "tokenizers"))


def rewrite(path, change):
    pq.write_table(change(pq.read_table(path)), path)


def set_first(table, name, value):
    place = table.column_names.index(name)
    values = pa.array([value, *table.column(name).to_pylist()[1:]], table.schema.field(name).type)
    return table.set_column(place, name, values)


def test_rows_of_queries_and_products_are_those_of_the_pairs(tiny_dataset):
    dataset = Dataset.open(tiny_dataset)
    products = pq.read_table(tiny_dataset / schema.PRODUCTS_FILE)
    examples = dataset.examples
    assert dataset.queries.take(pa.array(dataset.query_row)).to_pylist() == examples[schema.QUERY].to_pylist()
    for name in (schema.PRODUCT_ID, schema.LOCALE):
        assert products[name].take(pa.array(dataset.product_row)).to_pylist() == examples[name].to_pylist()
    assert len(set(dataset.queries.to_pylist())) == len(dataset.queries)
    assert dataset.product_count == products.num_rows
    assert sum(batch.num_rows for batch in dataset.product_batches()) == products.num_rows


def test_labels_locales_and_buckets_are_numbers(tiny_dataset):
    dataset = Dataset.open(tiny_dataset)
    assert [schema.LABELS[label] for label in dataset.labels] == dataset.examples[schema.LABEL].to_pylist()
    assert [COUNTRIES[country] for country in dataset.country] == dataset.examples[schema.LOCALE].to_pylist()
    buckets = dataset.buckets(20)
    assert len(set(zip(dataset.query_row.tolist(), buckets.tolist(), strict=True))) == len(dataset.queries)


def test_a_locale_that_is_none_of_the_three_is_other(folder):
    rewrite(folder / schema.EXAMPLES_FILE, lambda table: set_first(table, schema.LOCALE, "de"))
    assert COUNTRIES[Dataset.open(folder).country[0]] == "other"


def test_what_is_no_dataset_folder_is_refused_with_a_remedy(tmp_path):
    with pytest.raises(UserError, match=r"not a dataset folder.*\n.*zhichun prepare SOURCE DIR"):
        Dataset.open(tmp_path)
    with pytest.raises(UserError, match="not a dataset folder"):
        Dataset.open(tmp_path / "missing")


@pytest.mark.parametrize("name", ["manifest.json", schema.EXAMPLES_FILE])
@pytest.mark.parametrize("damage", ["cut", "empty", "garbage"])
def test_a_damaged_file_is_named(folder, name, damage):
    path = folder / name
    path.write_bytes(
        {"cut": path.read_bytes()[: path.stat().st_size // 2], "empty": b"", "garbage": b"\xff" * 99}[damage]
    )
    with pytest.raises(UserError, match=rf"{name}: cannot be read"):
        Dataset.open(folder)


def test_a_manifest_of_something_else_is_named(folder):
    (folder / "manifest.json").write_text('{"options": {"folds": "5"}}')
    with pytest.raises(UserError, match=r"manifest\.json: is not as it was written: folds is of another kind"):
        Dataset.open(folder)


def test_a_missing_table_is_named(folder):
    (folder / schema.EXAMPLES_FILE).unlink()
    with pytest.raises(UserError, match=r"examples\.parquet: there is no such file"):
        Dataset.open(folder)


def test_a_missing_column_of_the_examples_is_named(folder):
    rewrite(folder / schema.EXAMPLES_FILE, lambda table: table.drop_columns([schema.WEIGHT, schema.SPLIT]))
    with pytest.raises(UserError, match=r"examples\.parquet: lacks the columns \['split', 'weight'\]"):
        Dataset.open(folder)


def read_products(dataset):
    return dataset.product_row, dataset.product_count, list(dataset.product_batches())


def test_a_missing_column_of_the_products_is_named(folder):
    rewrite(folder / schema.PRODUCTS_FILE, lambda table: table.drop_columns([schema.COLOR]))
    with pytest.raises(UserError, match=r"products\.parquet: lacks the columns \['product_color'\]"):
        read_products(Dataset.open(folder))


@pytest.mark.parametrize("damage", ["cut", "missing", "one page"])
def test_damaged_products_are_named(folder, damage):
    path = folder / schema.PRODUCTS_FILE
    whole = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    if damage == "one page":  # the footer is whole, so that only reading the texts shows it
        path.write_bytes(whole[:200] + bytes(len(whole) // 3) + whole[200 + len(whole) // 3 :])
    with pytest.raises(UserError, match=r"products\.parquet: (cannot be read|there is no such file)"):
        read_products(Dataset.open(folder))


def test_a_pair_whose_product_is_gone_is_named_with_its_row(folder):
    rewrite(
        folder / schema.EXAMPLES_FILE,
        lambda table: pa.concat_tables([table[1:], set_first(table[:1], schema.PRODUCT_ID, "?")]),
    )
    dataset = Dataset.open(folder)
    with pytest.raises(UserError, match=rf"examples\.parquet, row {dataset.examples.num_rows}: a pair names a product"):
        _ = dataset.product_row


def test_a_product_is_known_by_its_locale_too(folder):
    """An id that is sold in two countries is two products."""
    rewrite(folder / schema.PRODUCTS_FILE, lambda table: table.filter(pc.not_equal(table[schema.LOCALE], "jp")))
    with pytest.raises(UserError, match="a pair names a product"):
        _ = Dataset.open(folder).product_row


def test_an_unknown_label_is_refused(folder):
    rewrite(folder / schema.EXAMPLES_FILE, lambda table: set_first(table, schema.LABEL, "X"))
    with pytest.raises(UserError, match=r"examples\.parquet: holds a label that is not E, S, C or I"):
        _ = Dataset.open(folder).labels


def test_columns_come_as_numpy(tiny_dataset):
    dataset = Dataset.open(tiny_dataset)
    assert isinstance(dataset.column(schema.QUERY_ID), np.ndarray)
    assert len(dataset.column(schema.SPLIT)) == dataset.examples.num_rows


def test_texts_of_pairs_are_those_of_their_products_in_any_order(tiny_dataset, monkeypatch):
    monkeypatch.setattr("zhichun.data.dataset.BATCH_ROWS", 7)
    dataset = Dataset.open(tiny_dataset)
    rows = np.array([30, 2, 2, len(dataset.examples) - 1])
    queries, products, locales, _ = dataset.texts(rows, schema.ORIGIN)
    catalogue = {
        (row[schema.LOCALE], row[schema.PRODUCT_ID]): row
        for row in pq.read_table(tiny_dataset / schema.PRODUCTS_FILE).to_pylist()
    }
    pairs = dataset.examples.take(pa.array(rows)).to_pylist()
    of_pairs = [catalogue[pair[schema.LOCALE], pair[schema.PRODUCT_ID]] for pair in pairs]
    assert queries == [pair[schema.QUERY] for pair in pairs]
    assert locales == [pair[schema.LOCALE] for pair in pairs]
    for name in (*schema.TEXT_COLUMNS, schema.ORIGIN):
        assert products[name] == [row[name] for row in of_pairs]

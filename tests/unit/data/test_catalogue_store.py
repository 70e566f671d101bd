"""The catalogue by row: the same texts as in the table, mapped from disk; whole or not there."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.data import feature_store
from zhichun.data.dataset import Dataset
from zhichun.data.feature_store import CatalogueTexts
from zhichun.text.vocabulary import Vocabulary

NO_PAIRS = np.zeros(0, np.int64)


@pytest.fixture
def dataset(tiny_dataset, tmp_path):
    ignore = shutil.ignore_patterns("features", "tokenizers", "catalogue")
    return Dataset.open(shutil.copytree(tiny_dataset, tmp_path / "data", ignore=ignore))


def open_catalogue(dataset, pairs=NO_PAIRS, progress=None):
    brands, colors = (
        Vocabulary.load(dataset.folder / "vocabulary" / f"{name}.parquet") for name in ("brands", "colors")
    )
    return CatalogueTexts.open(dataset, brands, colors, pairs, progress)


def test_any_rows_in_any_order_are_those_of_the_table(dataset, monkeypatch):
    monkeypatch.setattr("zhichun.data.dataset.BATCH_ROWS", 64)
    catalogue = open_catalogue(dataset)
    assert len(catalogue.batches) > 3
    table = pq.read_table(dataset.folder / schema.PRODUCTS_FILE)
    rows = np.asarray([299, 0, 64, 63, 128, 64])
    texts = catalogue.take(rows)
    for name in schema.TEXT_COLUMNS:
        assert texts.columns[name] == [table[name][int(row)].as_py() or "" for row in rows]
    assert texts.locales == [table[schema.LOCALE][int(row)].as_py() for row in rows]
    brands = Vocabulary.load(dataset.folder / "vocabulary" / "brands.parquet")
    assert texts.brands.tolist() == brands.index(texts.columns[schema.BRAND]).tolist()
    assert len(texts) == 6


@pytest.mark.skipif(not Path("/proc/self/maps").is_file(), reason="needs /proc")
def test_texts_are_mapped_and_not_read(dataset):
    catalogue = open_catalogue(dataset)
    catalogue.take(catalogue.rows[:1])
    assert str(dataset.folder / "catalogue") in Path("/proc/self/maps").read_text()


def test_the_rows_of_a_locale_are_all_its_products(dataset):
    catalogue = open_catalogue(dataset)
    locales = pq.read_table(dataset.folder / schema.PRODUCTS_FILE)[schema.LOCALE].to_pylist()
    for locale in schema.LOCALES:
        rows = catalogue.of_locale(locale)
        assert rows.tolist() == [row for row, found in enumerate(locales) if found == locale]
    assert len(catalogue.of_locale("fr")) == 0


def test_products_that_a_step_made_are_none_of_the_catalogue(dataset):
    path = dataset.folder / schema.PRODUCTS_FILE
    table = pq.read_table(path)
    made = table.slice(0, 10).set_column(
        table.column_names.index(schema.ORIGIN), schema.ORIGIN, pa.array(["balanced"] * 10)
    )
    pq.write_table(pa.concat_tables([made, table.slice(10)]), path)
    catalogue = open_catalogue(Dataset.open(dataset.folder))
    assert catalogue.rows.tolist() == list(range(10, 300))
    assert min(catalogue.of_locale(locale).min() for locale in schema.LOCALES) >= 10


def test_queries_are_those_of_the_given_pairs_alone(dataset):
    pairs = np.flatnonzero(dataset.column(schema.SPLIT) == schema.TRAIN)[::2]
    catalogue = open_catalogue(dataset, pairs)
    expected = {row: [] for row in range(300)}
    for pair in pairs:
        expected[int(dataset.product_row[pair])].append(dataset.column(schema.QUERY)[pair])
    assert catalogue.queries(np.arange(300)) == list(expected.values())
    assert sum(map(len, expected.values())) == len(pairs)


def test_the_held_out_share_is_a_hash_of_the_product_and_grows_by_adding(dataset):
    catalogue = open_catalogue(dataset)
    training, few = catalogue.split(0.05)
    more = catalogue.split(0.2)[1]
    assert sorted([*training, *few]) == catalogue.rows.tolist()
    assert set(few) < set(more)
    assert 30 < len(more) < 90
    assert few.tolist() == catalogue.split(0.05)[1].tolist()


def test_a_second_opening_copies_nothing(dataset, monkeypatch):
    told = []
    open_catalogue(dataset, progress=lambda *progress: told.append(progress))
    assert told[-1] == ("catalogue", 300, 300)
    monkeypatch.setattr(feature_store, "write_batches", lambda *_: pytest.fail("copied again"))
    open_catalogue(Dataset.open(dataset.folder))


def test_another_dataset_in_the_same_folder_is_copied_anew(dataset):
    open_catalogue(dataset)
    manifest = dataset.folder / "manifest.json"
    manifest.write_text(manifest.read_text() + " ")
    open_catalogue(Dataset.open(dataset.folder))
    assert len(list((dataset.folder / "catalogue").iterdir())) == 2


def test_a_copy_that_ends_early_leaves_nothing_and_the_next_one_is_whole(dataset, monkeypatch):
    write = feature_store.write_batches

    def interrupted(path, batches):
        write(path, batches)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(feature_store, "write_batches", interrupted)
        with pytest.raises(KeyboardInterrupt):
            open_catalogue(dataset)
    assert not (dataset.folder / "catalogue").exists()
    assert len(open_catalogue(dataset)) == 300


def test_a_copy_that_is_cut_off_is_named_with_what_to_do(dataset):
    open_catalogue(dataset)
    path = next((dataset.folder / "catalogue").glob("*/products.arrow"))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"products\.arrow: cannot be read .*\nDelete"):
        open_catalogue(Dataset.open(dataset.folder))

"""Features on disk: computed once for each dataset, tokenizer, template and vocabulary; whole or not there."""

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from zhichun.core import schema
from zhichun.core.arrays import Ragged
from zhichun.core.errors import UserError
from zhichun.data import feature_store
from zhichun.data.dataset import Dataset
from zhichun.data.feature_store import open_pairs, train_unigram
from zhichun.text.features import Featurizer
from zhichun.text.tokenizer import PairTokenizer
from zhichun.text.trigrams import TrigramVocabulary
from zhichun.text.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def featurizer(tiny_dataset):
    texts = [text for text in pq.read_table(tiny_dataset / schema.PRODUCTS_FILE)[schema.TITLE].to_pylist() if text]
    vocabulary = tiny_dataset / "vocabulary"
    return Featurizer(
        tokenizer=PairTokenizer(train_unigram(texts, 300)),
        fields=("title", "brand", "color", "bullets", "description"),
        trigrams=TrigramVocabulary.load(vocabulary / "trigrams.parquet"),
        brands=Vocabulary.load(vocabulary / "brands.parquet"),
        colors=Vocabulary.load(vocabulary / "colors.parquet"),
    )


@pytest.fixture
def dataset(tiny_dataset, tmp_path):
    ignore = shutil.ignore_patterns("features", "tokenizers")
    return Dataset.open(shutil.copytree(tiny_dataset, tmp_path / "data", ignore=ignore))


def stored(dataset):
    """The feature folders, whole or not."""
    folder = dataset.folder / "features"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def assert_same(ours, theirs):
    for name, made in vars(theirs).items():
        found = getattr(ours, name)
        if isinstance(made, Ragged):
            assert found.to_arrow() == made.to_arrow(), name
        else:
            assert np.array_equal(found, made), name


def test_words_for_nothing_are_no_features_but_of_titles(featurizer):
    empty = featurizer.products({name: [""] for name in schema.TEXT_COLUMNS})
    words = {name: ["N/A"] for name in schema.TEXT_COLUMNS if name != schema.TITLE}
    assert_same(featurizer.products({**words, schema.TITLE: [""]}), empty)
    titled = featurizer.products({**words, schema.TITLE: ["N/A"]})
    assert len(titled.tokens[0]) > len(empty.tokens[0])


def test_features_are_those_of_the_raw_texts(tiny_dataset, dataset, featurizer):
    pairs = open_pairs(dataset, featurizer, 32)
    raw = pq.read_table(tiny_dataset.parent / "shop" / schema.OFFICIAL_PRODUCTS_FILE)
    texts = {name: raw[name].to_pylist() for name in schema.TEXT_COLUMNS}
    assert any("<" in (text or "") for text in texts[schema.DESCRIPTION])
    assert_same(pairs.products, featurizer.products(texts))
    assert_same(pairs.queries, featurizer.queries(dataset.queries.to_pylist()))
    assert len(pairs) == dataset.examples.num_rows


def test_a_second_opening_computes_nothing_and_reads_the_same(dataset, featurizer, monkeypatch):
    reported = []
    first = open_pairs(dataset, featurizer, 32, lambda *progress: reported.append(progress))
    assert reported[-1] == ("products", dataset.product_count, dataset.product_count)
    for name in ("queries", "products"):
        monkeypatch.setattr(Featurizer, name, lambda *_: pytest.fail("computed again"))
    again = open_pairs(Dataset.open(dataset.folder), featurizer, 64, lambda *_: pytest.fail("progress of nothing"))
    assert_same(again.products, first.products)
    assert_same(again.queries, first.queries)
    assert len(stored(dataset)) == 1


@pytest.mark.skipif(not Path("/proc/self/maps").is_file(), reason="needs /proc")
def test_tokens_are_mapped_and_not_read(dataset, featurizer):
    pairs = open_pairs(dataset, featurizer, 32)
    assert str(dataset.folder / "features") in Path("/proc/self/maps").read_text()
    assert not pairs.products.tokens[0].flags.owndata


def test_every_change_that_counts_makes_features_of_its_own(dataset, featurizer):
    others = {
        "tokenizer": replace(featurizer, tokenizer=PairTokenizer(train_unigram(["red shoes", "blue hat"] * 9, 60))),
        "order of fields": replace(featurizer, fields=("title", "description", "bullets", "brand", "color")),
        "brands": replace(featurizer, brands=Vocabulary(("nike",), (2,))),
        "no brands": replace(featurizer, brands=None),
        "no colors": replace(featurizer, colors=None),
        "no trigrams": replace(featurizer, trigrams=None),
    }
    open_pairs(dataset, featurizer, 32)
    for count, other in enumerate(others.values(), start=2):
        pairs = open_pairs(dataset, other, 32)
        assert len(stored(dataset)) == count
        assert_same(pairs.queries, other.queries(dataset.queries.to_pylist()))
    manifest = dataset.folder / "manifest.json"
    manifest.write_text(manifest.read_text() + " ")
    open_pairs(Dataset.open(dataset.folder), featurizer, 32)
    assert len(stored(dataset)) == len(others) + 2


def test_a_build_that_ends_early_leaves_nothing_and_the_next_one_is_whole(dataset, featurizer, monkeypatch):
    write, written = feature_store.write_batches, []

    def interrupted(path, batches):
        written.append(path.name)
        if path.name == "products.arrow":
            raise KeyboardInterrupt
        write(path, batches)

    with monkeypatch.context() as patch:
        patch.setattr(feature_store, "write_batches", interrupted)
        with pytest.raises(KeyboardInterrupt):
            open_pairs(dataset, featurizer, 32)
    assert written == ["queries.arrow", "products.arrow"]
    assert stored(dataset) == []
    assert len(open_pairs(dataset, featurizer, 32)) == dataset.examples.num_rows


@pytest.mark.parametrize("process", [1, os.getpid()], ids=["another process", "the same number again"])
def test_what_a_killed_build_left_does_not_hurt(dataset, featurizer, process):
    key = dataset.fingerprint(featurizer.fingerprint)
    left = dataset.folder / "features" / f"{key}.partial-{process}-0badcafe"
    left.mkdir(parents=True)
    (left / "queries.arrow").write_bytes(b"half")
    pairs = open_pairs(dataset, featurizer, 32)
    assert_same(pairs.queries, featurizer.queries(dataset.queries.to_pylist()))


def test_two_processes_that_build_at_once_share_what_is_there_first(dataset, featurizer, monkeypatch):
    write = feature_store.write_batches

    def overtaken(path, batches):
        write(path, batches)
        if path.name == "products.arrow":
            shutil.copytree(path.parent, path.parent.with_name(dataset.fingerprint(featurizer.fingerprint)))

    monkeypatch.setattr(feature_store, "write_batches", overtaken)
    assert len(open_pairs(dataset, featurizer, 32)) == dataset.examples.num_rows
    assert stored(dataset) == [dataset.fingerprint(featurizer.fingerprint)]


@pytest.mark.parametrize("name", ["queries.arrow", "products.arrow"])
@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_truncated_file_is_named_with_what_to_delete(dataset, featurizer, name, share):
    open_pairs(dataset, featurizer, 32)
    path = dataset.folder / "features" / stored(dataset)[0] / name
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(UserError, match=rf"{name}: cannot be read") as error:
        open_pairs(dataset, featurizer, 32)
    assert error.value.remedy == f"Delete {path.parent}; it is made again from the dataset."
    shutil.rmtree(path.parent)
    open_pairs(dataset, featurizer, 32)


def test_a_full_disk_is_told_and_leaves_nothing(dataset, featurizer, monkeypatch):
    def full(path, batches):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(feature_store, "write_batches", full)
    with pytest.raises(UserError, match="the disk is full"):
        open_pairs(dataset, featurizer, 32)
    assert stored(dataset) == []


def test_damaged_products_are_blamed_and_not_the_disk(dataset, featurizer):
    path = dataset.folder / schema.PRODUCTS_FILE
    pq.write_table(pq.read_table(path).drop_columns([schema.COLOR]), path)
    with pytest.raises(UserError, match=r"products\.parquet: lacks the columns"):
        open_pairs(dataset, featurizer, 32)
    assert stored(dataset) == []

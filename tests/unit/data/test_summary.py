"""The figures of a dataset's summary, against counts by hand and against what training reads."""

import json
import shutil

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from zhichun.core.errors import UserError
from zhichun.data.dataset import Dataset
from zhichun.data.feature_store import open_pairs
from zhichun.data.prepare.making import Rebalance
from zhichun.data.prepare.prepare import prepare
from zhichun.data.prepare.summary import MAX_LENGTHS, SUMMARY_FILE, describe, summarise, survey
from zhichun.data.sample_shop import write_sample_shop
from zhichun.text.features import Featurizer
from zhichun.text.pairs import FIELDS
from zhichun.text.tokenizer import PairTokenizer

PRODUCTS = [
    {"product_id": "1", "title": "Red shoe", "brand": "ACME", "color": "Red", "locale": "us"},
    {"product_id": "2", "title": "Blue hats", "brand": "Acme", "locale": "us"},
    {"product_id": "3", "title": "赤い靴", "bullets": "革 100%", "locale": "jp"},
]
EXAMPLES = [
    {"query": "red shoe", "product_id": "1", "label": "E", "locale": "us", "split": "train"},
    {"query": "red shoe", "product_id": "2", "label": "I", "locale": "us", "split": "train", "weight": 0.5},
    {"query": "hat", "product_id": "2", "label": "E", "locale": "us", "split": "test"},
    {"query": "靴", "product_id": "3", "label": "S", "locale": "jp", "split": "train"},
]


@pytest.fixture
def folder(tmp_path):
    """Prepare the four pairs above."""
    for name, records in (("e", EXAMPLES), ("p", PRODUCTS)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records), "utf-8")
    prepare(None, tmp_path / "data", examples=tmp_path / "e.jsonl", products=tmp_path / "p.jsonl")
    return tmp_path / "data"


def figures(described, locale):
    found = described["by_locale"][locale]
    return [found[name] for name in ("texts", "mean", "median", "p95", "longest", "bars", "beyond")]


def test_prepare_writes_the_figures_of_what_it_prepared(folder):
    assert json.loads((folder / SUMMARY_FILE).read_text("utf-8")) == summarise(folder)


def test_pairs_and_queries_are_counted_by_locale_split_and_label(folder):
    found = summarise(folder)
    names = ("origin", "locale", "split", "label", "pairs", "weight")
    assert [tuple(row[name] for name in names) for row in found["pairs"]] == [
        ("judged", "jp", "train", "S", 1, 1.0),
        ("judged", "us", "test", "E", 1, 1.0),
        ("judged", "us", "train", "E", 1, 1.0),
        ("judged", "us", "train", "I", 1, 0.5),
    ]
    assert [tuple(row.values()) for row in found["queries"]] == [
        ("jp", "train", 1),
        ("us", "test", 1),
        ("us", "train", 1),
    ]
    assert figures(found["judged_products"], "us") == [2, 1.5, 1, 2, 2, [0, 1, 1], 0]


def test_lengths_are_those_of_the_texts_that_are_there(folder):
    lengths = summarise(folder)["lengths"]
    assert figures(lengths["query"]["characters"], "us") == [2, 5.5, 3, 8, 8, [0, 0, 0, 1, 0, 0, 0, 0, 1], 0]
    assert [figures(lengths["query"][unit], "jp")[1] for unit in ("characters", "bytes", "words")] == [1, 3, 1]
    assert figures(lengths["title"]["characters"], "us")[:2] == [2, 8.5]
    assert lengths["color"]["characters"]["by_locale"].keys() == {"us"}
    assert figures(lengths["product"]["characters"], "us")[1:5] == [14, 13, 15, 15]
    assert figures(lengths["product"]["words"], "us")[1:5] == [3.5, 3, 4, 4]
    assert figures(lengths["bullets"]["words"], "jp")[:2] == [1, 2]


def test_empty_fields_brands_and_colors_are_counted_by_locale(folder):
    found = summarise(folder)
    assert found["products"] == {
        "by_locale": {"jp": 1, "us": 2},
        "without": {
            "title": {"jp": 0, "us": 0},
            "brand": {"jp": 1, "us": 0},
            "color": {"jp": 1, "us": 1},
            "bullets": {"jp": 0, "us": 2},
            "description": {"jp": 1, "us": 2},
        },
        "made": {},
    }
    assert found["brands"] == {"us": {"values": 1, "products": 2, "top": [["acme", 2]]}}
    assert found["colors"] == {"us": {"values": 1, "products": 1, "top": [["red", 1]]}}


def test_a_histogram_holds_all_texts_but_the_longest_hundredth():
    lengths = pl.DataFrame({"product_locale": ["us"] * 101 + ["es", "jp"], "n": [*range(1, 101), 100, 3, None]})
    described = describe(lengths, "n")
    assert described["bar"] == 5
    us = figures(described, "us")
    assert us == [101, 50.99, 51, 96, 100, [4] + [5] * 19 + [2], 0]
    assert figures(described, "es") == [1, 3, 3, 3, 3, [1], 0]
    assert described["by_locale"].keys() == {"us", "es"}
    longer = pl.concat([lengths, pl.DataFrame({"product_locale": ["us"], "n": [100_000]})])
    _, _, median, _, longest, bars, beyond = figures(describe(longer, "n"), "us")
    assert (median, longest, sum(bars), beyond) == (51, 100_000, 101, 1)


def test_the_sample_is_drawn_evenly_and_without_made_products(tmp_path, monkeypatch):
    monkeypatch.setattr("zhichun.data.dataset.BATCH_ROWS", 7)
    write_sample_shop(tmp_path / "shop", products=120, queries=60, text="esci")
    prepare(tmp_path / "shop", tmp_path / "data", steps=[Rebalance()])
    dataset = Dataset.open(tmp_path / "data")
    rows = pq.read_table(tmp_path / "data" / "products.parquet")
    made = rows["origin"].to_pylist().count("balanced")
    products, drawn, origins = survey(dataset, 48, lambda what, done, total: None)
    assert made == origins["balanced"] > 0
    assert len(products) == rows.num_rows - made == 120
    wanted = [row for pair in range(0, 120, 5) for row in (pair, pair + 2)]
    assert drawn["product_id"].to_list() == rows["product_id"].take(wanted).to_pylist()


def test_a_sample_must_hold_something(folder):
    with pytest.raises(UserError, match=r"a sample cannot have 0 products\.\nGive a whole number from 1\."):
        summarise(folder, sample=0)


def test_what_is_no_dataset_folder_is_named(tmp_path):
    with pytest.raises(UserError, match="not a dataset folder"):
        summarise(tmp_path)


@pytest.mark.parametrize("sample", [10_000, 100])
def test_tokens_of_pairs_are_those_that_training_reads(tiny_dataset, tmp_path, sample):
    shutil.copytree(tiny_dataset, tmp_path / "data", ignore=shutil.ignore_patterns("features"))
    tokenizer = PairTokenizer.load(tiny_dataset / "tokenizers" / "unigram-500")
    found = summarise(tmp_path / "data", tokenizer=tokenizer, tokenizer_name="golden", sample=sample)
    dataset = Dataset.open(tmp_path / "data")
    pairs = open_pairs(dataset, Featurizer(tokenizer, FIELDS), max_length=1_000_000)
    drawn = np.arange(min(sample, 300)) * 300 // min(sample, 300)
    chosen = np.isin(dataset.product_row, drawn)
    wanted, locales = pairs.lengths[chosen], dataset.column("product_locale")[chosen]
    described = found["lengths"]["pair"]["tokens"]
    for locale in ("us", "es", "jp"):
        here = locales == locale
        expected = describe(pl.DataFrame({"product_locale": locales[here], "n": wanted[here]}), "n")
        assert figures(described, locale)[:5] == figures(expected, locale)[:5]
    assert [row["cut"] for row in found["tokens"]["cut"] if row["locale"] == "us"] == [
        int((wanted[locales == "us"] > length).sum()) for length in MAX_LENGTHS
    ]
    assert found["tokens"]["fingerprint"] == tokenizer.fingerprint


def test_spellings_of_one_query_are_one_query_of_the_summary(tiny_dataset, tmp_path):
    rows = ["Shoe,1,E", "shoe ,2,S", "ＳＨＯＥ,3,I", "hat,1,C"]
    (tmp_path / "e.csv").write_text("query,product_id,label\n" + "\n".join(rows), "utf-8")
    (tmp_path / "p.csv").write_text("product_id,title\n1,a\n2,b\n3,c\n", "utf-8")
    prepare(None, tmp_path / "data", examples=tmp_path / "e.csv", products=tmp_path / "p.csv", test_share=0)
    tokenizer = PairTokenizer.load(tiny_dataset / "tokenizers" / "unigram-500")
    found = summarise(tmp_path / "data", tokenizer=tokenizer, tokenizer_name="golden")
    assert found["queries"] == [{"locale": "us", "split": "train", "queries": 2}]
    assert found["judged_products"]["by_locale"]["us"]["longest"] == 3
    assert found["lengths"]["pair"]["tokens"]["by_locale"]["us"]["texts"] == 4

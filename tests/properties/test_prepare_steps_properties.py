"""What holds of a dataset folder whatever it was made of."""

import json
import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhichun.core.errors import UserError
from zhichun.data.prepare.judges import MODES
from zhichun.data.prepare.making import Rebalance
from zhichun.data.prepare.prepare import prepare
from zhichun.text.fold import fold_query

# Few of each, so that pairs repeat, conflict and leak; some that are the same query only after folding.
QUERIES = st.sampled_from(
    ["red shoe", "Red  SHOE", "ＲＥＤ shoe", "hat", "<b>hat</b>", "", "straße", "STRASSE", "е\u0301"]
)
EXAMPLES = st.lists(
    st.fixed_dictionaries(
        {
            "query": QUERIES | st.text(max_size=3),
            "product_id": st.sampled_from(["1", "2", "3", "nan"]),
            "label": st.sampled_from(["E", "S", "C", "I", "I", "?", "", "-1"]),
        },
        optional={
            "split": st.sampled_from(["train", "train", "test", "dev", ""]),
            "locale": st.sampled_from(["us", "jp"]),
            "weight": st.sampled_from([1, 0.5, 0, -1]),
            "example_id": st.integers(0, 30),
            "judge": st.sampled_from(["a", "b", " "]),
        },
    ),
    max_size=25,
)
# All of them usable, so that little but leaks and copies stands between them and the dataset.
USABLE = st.lists(
    st.fixed_dictionaries(
        {
            "query": QUERIES.filter(bool),
            "product_id": st.sampled_from(["1", "2"]),
            "label": st.just("I"),
            "split": st.sampled_from(["train", "test", ""]),
        },
    ),
    max_size=12,
)
PRODUCTS = [
    {"product_id": "1", "title": "Long", "description": "word " * 200, "locale": "us"},
    {"product_id": "1", "title": "Long", "description": "言葉" * 200, "locale": "jp"},
    {"product_id": "2", "title": "Short", "locale": "us"},
    {"product_id": "2", "title": "Again", "locale": "us"},
    {"product_id": "3~", "title": "Tilde", "locale": "us"},
]
ISSUES = st.none() | st.lists(st.integers(0, 30), max_size=5)


class Prepared:
    """A dataset folder and its manifest."""

    def __init__(self, folder, examples, issues, balance, folds, test_share, judges):
        for name, records in (("e", examples), ("p", PRODUCTS)):
            lines = "".join(json.dumps(record) + "\n" for record in records)
            (folder / f"{name}.jsonl").write_text(lines, "utf-8")
        (folder / "i.csv").write_text("\n".join(["example_id", *map(str, issues or [])]), "utf-8")
        self.manifest = prepare(
            None,
            folder / "out",
            examples=folder / "e.jsonl",
            products=folder / "p.jsonl",
            on_bad_rows="drop",
            overwrite=True,
            folds=folds,
            test_share=test_share,
            judges=judges,
            drop_issues=None if issues is None else folder / "i.csv",
            steps=[Rebalance()] if balance else [],
        )
        self.examples, self.products, self.rejected = (
            pl.read_parquet(folder / "out" / f"{name}.parquet") for name in ("examples", "products", "rejected")
        )
        self.files = {each: each.read_bytes() for each in (folder / "out").rglob("*") if each.is_file()}


@pytest.fixture(scope="module")
def attempt():
    """Prepare anything; None where no pair is left."""
    with tempfile.TemporaryDirectory() as folder:

        def run(examples, issues=None, balance=False, folds=5, test_share=0.3, judges=None):
            given = [{"query": "q", "product_id": "1", "label": "E"}, *examples]
            try:
                return Prepared(Path(folder), given, issues, balance, folds, test_share, judges)
            except UserError as error:
                if "no judged pair is left" not in error.problem:
                    raise
                return None

        yield run


@given(examples=USABLE | EXAMPLES, folds=st.integers(2, 8), share=st.sampled_from([0, 0.5]))
@settings(max_examples=20, deadline=None)
def test_no_query_is_in_two_folds_or_in_both_splits(attempt, examples, folds, share):
    prepared = attempt(examples, balance=True, folds=folds, test_share=share)
    keys = pl.Series("key", [fold_query(query) for query in prepared.examples["query"]])
    places = prepared.examples.with_columns(keys).select("key", "fold", "split").unique()
    assert places["key"].is_unique().all()
    assert prepared.examples["fold"].is_between(0, folds - 1).all()
    pairs = prepared.examples.with_columns(keys)
    assert pairs.select("key", "product_locale", "product_id").is_unique().all()
    queries = pairs.select("key", "product_locale", "query_id").unique()
    assert queries["query_id"].is_unique().all()
    assert queries.select("key", "product_locale").is_unique().all()


@given(examples=EXAMPLES, issues=ISSUES)
@settings(max_examples=15, deadline=None)
def test_balancing_keeps_every_original_row_and_its_weight(attempt, examples, issues):
    plain, balanced = (attempt(examples, issues, balance) for balance in (False, True))
    if plain is None:
        assert balanced is None
        return
    assert balanced.examples.head(len(plain.examples)).equals(plain.examples)
    made = balanced.examples.slice(len(plain.examples))
    assert set(made["origin"]) <= {"balanced"}
    assert set(made["split"]) <= {"train"}
    assert balanced.examples["example_id"].is_unique().all()
    assert balanced.products.head(len(plain.products)).equals(plain.products)
    known = balanced.products.select("product_id", "product_locale")
    assert known.is_unique().all()
    assert made.join(known, on=["product_id", "product_locale"], how="anti").is_empty()
    assert balanced.manifest["vocabulary"] == plain.manifest["vocabulary"]


@given(examples=EXAMPLES, issues=ISSUES, balance=st.booleans(), judges=st.sampled_from([None, *MODES]))
@settings(max_examples=25, deadline=None)
def test_counts_add_up(attempt, examples, issues, balance, judges):
    prepared = attempt(examples, issues, balance, judges=judges)
    if prepared is None:
        return
    steps, pairs, products = (prepared.manifest[name] for name in ("steps", "examples", "products"))
    for step in steps:
        assert step["read"] + step["made"] == step["kept"] + sum(step["dropped"].values())
    assert [step["read"] for step in steps[1:]] == [step["kept"] for step in steps[:-1]]
    assert steps[0]["read"] == pairs["read"] == len(examples) + 1
    assert pairs["read"] == pairs["kept"] + sum(pairs["dropped"].values())
    assert steps[-1]["kept"] == pairs["kept"] + sum(pairs["made"].values()) == len(prepared.examples)
    for name in ("by_locale", "by_label", "by_split", "by_fold", "by_origin"):
        assert sum(pairs[name].values()) == len(prepared.examples)
    assert products["read"] == products["kept"] + sum(products["dropped"].values()) == len(PRODUCTS)
    assert products["kept"] + sum(products["made"].values()) == len(prepared.products)
    dropped = [step["dropped"] for step in steps] + [products["dropped"], prepared.manifest["refused_issues"]]
    assert sum(sum(reasons.values()) for reasons in dropped) == len(prepared.rejected)


@given(examples=EXAMPLES, issues=ISSUES, balance=st.booleans())
@settings(max_examples=12, deadline=None)
def test_preparing_twice_gives_the_same_bytes(attempt, examples, issues, balance):
    first, second = (attempt(examples, issues, balance) for _ in range(2))
    assert first is second is None or first.files == second.files

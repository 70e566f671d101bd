"""The sample shop: official layout, ESCI's shares, labels that follow from the attributes, known mistakes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.data.sample_shop import TRUE_LABEL, TRUE_LABELS_FILE, write_sample_shop
from zhichun.data.sample_shop.catalogue import COLORS, apportion, make_catalogue
from zhichun.data.sample_shop.judged_pairs import true_labels
from zhichun.data.sample_shop.texts import agree, mistype, plural_es, plural_us, to_hiragana

FILES = (schema.OFFICIAL_EXAMPLES_FILE, schema.OFFICIAL_PRODUCTS_FILE, TRUE_LABELS_FILE)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    write_sample_shop(folder, products=6000, queries=1500)
    return folder


@pytest.fixture(scope="module")
def judged(shop: Path) -> pl.DataFrame:
    """Every judgement with its true label and its product."""
    examples = pl.read_parquet(shop / schema.OFFICIAL_EXAMPLES_FILE)
    truth = pl.read_parquet(shop / TRUE_LABELS_FILE)
    products = pl.read_parquet(shop / schema.OFFICIAL_PRODUCTS_FILE)
    joined = examples.join(truth, on=schema.EXAMPLE_ID, validate="1:1")
    joined = joined.join(products, on=[schema.PRODUCT_ID, schema.LOCALE], validate="m:1")
    assert len(joined) == len(examples) == len(truth), "a pair lacks its truth, or its product in its locale"
    return joined


def test_columns_and_types_are_the_official_ones(shop: Path) -> None:
    text, number = pa.large_string(), pa.int64()
    assert pq.read_schema(shop / schema.OFFICIAL_EXAMPLES_FILE) == pa.schema(
        {
            "example_id": number,
            "query": text,
            "query_id": number,
            "product_id": text,
            "product_locale": text,
            "esci_label": text,
            "small_version": number,
            "large_version": number,
            "split": text,
        }
    )
    assert pq.read_schema(shop / schema.OFFICIAL_PRODUCTS_FILE) == pa.schema(
        {
            "product_id": text,
            "product_title": text,
            "product_description": text,
            "product_bullet_point": text,
            "product_brand": text,
            "product_color": text,
            "product_locale": text,
        }
    )
    assert pq.read_schema(shop / TRUE_LABELS_FILE) == pa.schema({"example_id": number, "true_label": text})


def test_same_seed_gives_the_same_bytes_and_another_seed_another_shop(tmp_path: Path) -> None:
    for folder, seed in (("first", 3), ("second", 3), ("other", 4)):
        write_sample_shop(tmp_path / folder, products=300, queries=40, seed=seed)
    for name in FILES:
        first, second, other = ((tmp_path / folder / name).read_bytes() for folder in ("first", "second", "other"))
        assert first == second
        assert first != other


@pytest.mark.parametrize(
    ("asked", "offered", "label"),
    [
        # type, brand, color, material, feature, size, audience; types 0, 1 | 2, 3 are one department, 4 another
        ([0, -1, -1, -1, -1, -1, -1], [0, 5, 2, -1, 1, -1, 0], "E"),
        ([0, 5, 2, -1, 1, -1, 0], [0, 5, 2, -1, 1, -1, 0], "E"),
        ([0, 5, 3, -1, -1, -1, -1], [0, 5, 2, -1, 1, -1, 0], "S"),
        ([0, 4, -1, -1, -1, -1, -1], [0, 5, 2, -1, 1, -1, 0], "S"),
        ([0, -1, -1, -1, -1, -1, 2], [0, 5, 2, -1, 1, -1, 0], "S"),
        ([0, -1, -1, -1, -1, -1, -1], [1, 5, 2, -1, 1, -1, 0], "S"),
        ([0, 5, -1, -1, -1, -1, -1], [2, 5, 2, -1, 1, -1, -1], "C"),
        ([3, -1, -1, -1, -1, -1, -1], [1, 5, 2, -1, 1, -1, -1], "C"),
        ([0, -1, 2, -1, -1, -1, -1], [4, 5, 2, -1, 1, -1, -1], "I"),
    ],
)
def test_labels_follow_from_the_attributes(asked: list[int], offered: list[int], label: str) -> None:
    place = true_labels(np.array([asked], dtype=np.int16), np.array([offered], dtype=np.int16))
    assert schema.LABELS[place[0]] == label


def test_texts_say_what_the_labels_say(judged: pl.DataFrame) -> None:
    """A query for a colour is answered exactly by products of that colour only, as far as their fields tell."""
    us = judged.filter((pl.col(schema.LOCALE) == "us") & pl.col(schema.COLOR).is_not_null())
    checked = 0
    for color in COLORS:
        asked = us.filter(pl.col(schema.QUERY).str.to_lowercase().str.split(" ").list.contains(color["us"]))
        has_it = asked[schema.COLOR].str.to_lowercase().str.contains(color["us"])
        assert has_it.filter(asked[TRUE_LABEL] == "E").all()
        checked += len(asked)
    assert checked > 500


def test_shares_of_labels_are_near_those_of_esci(judged: pl.DataFrame) -> None:
    def shares(rows: pl.DataFrame) -> list[float]:
        return [(rows[schema.LABEL] == label).mean() for label in schema.LABELS]  # type: ignore[misc]

    assert shares(judged) == pytest.approx([0.65, 0.22, 0.03, 0.10], abs=0.02)
    assert shares(judged.filter(pl.col(schema.SMALL) == 1)) == pytest.approx([0.44, 0.35, 0.05, 0.17], abs=0.025)
    for locale in schema.LOCALES:
        assert shares(judged.filter(pl.col(schema.LOCALE) == locale)) == pytest.approx(
            [0.65, 0.22, 0.03, 0.1], abs=0.04
        )


def test_queries_are_as_many_and_as_long_as_in_esci(judged: pl.DataFrame) -> None:
    queries = judged.unique(schema.QUERY_ID)
    assert queries.select(schema.QUERY, schema.LOCALE).is_unique().all()
    assert queries[schema.SMALL].mean() == pytest.approx(0.4, abs=0.01)
    for locale, share, shortest, longest in (("us", 0.70, 17, 25), ("es", 0.14, 17, 27), ("jp", 0.16, 8, 13)):
        texts = queries.filter(pl.col(schema.LOCALE) == locale)[schema.QUERY]
        assert len(texts) / len(queries) == pytest.approx(share, abs=0.01)
        assert shortest <= float(texts.str.len_chars().median()) <= longest  # type: ignore[arg-type]


def test_a_query_is_in_one_split_and_a_pair_is_judged_once(judged: pl.DataFrame) -> None:
    of_query = judged.group_by(schema.QUERY_ID).agg(pl.col(schema.SPLIT, schema.SMALL, schema.QUERY).n_unique())
    assert (of_query.drop(schema.QUERY_ID) == 1).to_numpy().all()
    assert judged.select(schema.QUERY_ID, schema.PRODUCT_ID).is_unique().all()
    test_share = judged.filter(pl.col(schema.SPLIT) == "test")[schema.QUERY_ID].n_unique() / len(of_query)
    assert test_share == pytest.approx(0.2, abs=0.01)


def test_lists_are_graded(judged: pl.DataFrame) -> None:
    of_query = judged.group_by(schema.QUERY_ID).agg(
        pl.col(TRUE_LABEL).n_unique().alias("grades"), (pl.col(TRUE_LABEL) == "E").sum().alias("exact"), pl.len()
    )
    assert of_query["len"].mean() == pytest.approx(12, abs=0.5)
    assert (of_query["grades"] >= 2).mean() > 0.8  # type: ignore[operator]
    assert (of_query["exact"] >= 2).mean() > 0.9  # type: ignore[operator]


def test_wrong_labels_are_a_known_share_of_the_train_split_only(judged: pl.DataFrame) -> None:
    wrong = judged[schema.LABEL] != judged[TRUE_LABEL]
    in_train = judged[schema.SPLIT] == "train"
    assert not (wrong & ~in_train).any()
    assert wrong.sum() == round(0.06 * in_train.sum())
    # An exact product is taken for a substitute more often than for anything else.
    of_exact = judged.filter(wrong & (judged[TRUE_LABEL] == "E"))[schema.LABEL]
    assert (of_exact == "S").mean() > 0.6  # type: ignore[operator]


def test_no_wrong_labels_if_none_are_asked_for(tmp_path: Path) -> None:
    assert write_sample_shop(tmp_path, products=300, queries=40, wrong_labels=0)["wrong_labels"] == 0
    examples, truth = (pl.read_parquet(tmp_path / name) for name in (schema.OFFICIAL_EXAMPLES_FILE, TRUE_LABELS_FILE))
    assert examples[schema.LABEL].to_list() == truth[TRUE_LABEL].to_list()


@pytest.mark.parametrize(
    ("text", "title", "bullets", "description"), [("short", 55, 105, 150), ("esci", 100, 650, 800)]
)
def test_product_texts(text: Any, title: int, bullets: int, description: int, tmp_path: Path) -> None:
    write_sample_shop(tmp_path, products=6000, queries=10, text=text)
    products = pl.read_parquet(tmp_path / schema.OFFICIAL_PRODUCTS_FILE)
    assert products[schema.PRODUCT_ID].is_unique().all()
    assert products[schema.PRODUCT_ID].str.contains("^B0[0-9A-Z]{8}$").all()
    for column, share in (
        (schema.TITLE, 0.0),
        (schema.DESCRIPTION, 0.48),
        (schema.BULLETS, 0.16),
        (schema.BRAND, 0.07),
        (schema.COLOR, 0.33),
    ):
        assert products[column].is_null().mean() == pytest.approx(share, abs=0.03)
        assert not (products[column] == "").any()
    us = products.filter(pl.col(schema.LOCALE) == "us")
    for column, length in ((schema.TITLE, title), (schema.BULLETS, bullets), (schema.DESCRIPTION, description)):
        assert us[column].str.len_chars().median() == pytest.approx(length, rel=0.12)
    described = products[schema.DESCRIPTION].drop_nulls()
    assert described.str.contains("<").mean() == pytest.approx(0.4, abs=0.03)
    for mark in ("<p>", "<br>", "<b>", "&amp;", "&nbsp;"):
        assert described.str.contains(mark, literal=True).any()
    assert products[schema.BULLETS].drop_nulls().str.contains("\n").all()
    assert not products[schema.TITLE].str.contains(r"  |^ | $|\{").any()


def test_brands_grow_with_the_shop(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    small, large = (len(np.unique(make_catalogue(n, rng).attributes[:, 1])) for n in (2_000, 200_000))
    assert small < 20
    assert large > 500


@pytest.mark.parametrize(("products", "queries", "candidates"), [(60, 10, 12), (200, 20, 10), (80, 500, 3)])
def test_small_shops_have_everything(products: int, queries: int, candidates: float, tmp_path: Path) -> None:
    summary = write_sample_shop(tmp_path, products=products, queries=queries, candidates=candidates)
    examples = pl.read_parquet(tmp_path / schema.OFFICIAL_EXAMPLES_FILE)
    assert summary["pairs"] == len(examples)
    assert summary["queries"] == examples[schema.QUERY_ID].n_unique() == queries
    assert set(examples[schema.LOCALE]) == set(schema.LOCALES)
    assert set(examples[schema.SPLIT]) == {"train", "test"}
    assert set(examples.filter(pl.col(schema.SPLIT) == "train")[schema.LOCALE]) == set(schema.LOCALES)
    if len(examples) >= 150:
        assert set(examples[schema.LABEL]) == set(schema.LABELS)


def test_progress_reaches_the_whole(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    summary = write_sample_shop(
        tmp_path, products=45_000, queries=20, progress=lambda done, total: calls.append((done, total))
    )
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})
    assert calls[-1] == (summary["products"] + summary["pairs"],) * 2
    assert len(calls) == 4


def _fail(done: int, total: int) -> None:
    raise KeyboardInterrupt


def test_a_broken_run_leaves_nothing_and_harms_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_sample_shop(tmp_path, products=100, queries=10, progress=_fail)
    assert list(tmp_path.iterdir()) == []

    write_sample_shop(tmp_path, products=100, queries=10)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(before) == set(FILES)
    with pytest.raises(KeyboardInterrupt):
        write_sample_shop(tmp_path, products=100, queries=10, seed=1, overwrite=True, progress=_fail)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_existing_shop_is_replaced_only_if_asked(tmp_path: Path) -> None:
    write_sample_shop(tmp_path, products=100, queries=10)
    with pytest.raises(UserError, match=r"the folder exists\.\n.*--overwrite"):
        write_sample_shop(tmp_path, products=100, queries=10)
    assert write_sample_shop(tmp_path, products=120, queries=10, overwrite=True)["products"] == 120


@pytest.mark.parametrize(
    "given",
    [{"products": 59}, {"queries": 9}, {"candidates": 1}, {"wrong_labels": 0.6}, {"wrong_labels": -0.1}, {"seed": -1}],
)
def test_nonsense_is_refused(given: dict[str, Any], tmp_path: Path) -> None:
    name = next(iter(given))
    with pytest.raises(UserError, match=f"{name} = {given[name]}") as refusal:
        write_sample_shop(tmp_path / "new", **given)
    assert refusal.value.remedy
    assert not (tmp_path / "new").exists()


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "shop").write_text("")
    with pytest.raises(UserError, match="not a folder"):
        write_sample_shop(tmp_path / "shop")


@pytest.mark.parametrize(
    ("spell", "given", "expected"),
    [
        (plural_us, ("phone case",), "phone cases"),
        (plural_us, ("water bottle brush",), "water bottle brushes"),
        (plural_us, ("headphones",), "headphones"),
        (plural_es, ("sartén de cocina", "fs"), "sartenes de cocina"),
        (plural_es, ("tablet", "fs"), "tablets"),
        (plural_es, ("zapatillas running", "fp"), "zapatillas running"),
        (agree, ("negro", "fp"), "negras"),
        (agree, ("azul", "mp"), "azules"),
        (agree, ("gris", "fp"), "grises"),
        (agree, ("marrón", "fs"), "marrón"),
        (agree, ("rosa", "mp"), "rosa"),
        (mistype, ("lamp", lambda: 0.0), "lmap"),
        (mistype, ("lamp", lambda: 0.6), "lap"),
        (mistype, ("lamp", lambda: 0.9), "lammp"),
        (to_hiragana, ("スマホカバー 黒",), "すまほかばー 黒"),
    ],
)
def test_spellings(spell: Callable[..., str], given: tuple[Any, ...], expected: str) -> None:
    assert spell(*given) == expected


def test_apportion_keeps_the_total() -> None:
    assert apportion(10, [0.7, 0.14, 0.16]).tolist() == [7, 1, 2]
    assert apportion(7, [1, 1, 1]).sum() == 7

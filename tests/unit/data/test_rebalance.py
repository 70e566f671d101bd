import json

import polars as pl
import pyarrow.parquet as pq
import pytest

from zhichun.cli import main
from zhichun.core.errors import UserError
from zhichun.data.prepare.making import Rebalance
from zhichun.data.prepare.prepare import prepare
from zhichun.text.vocabulary import Vocabulary

LONG = "".join(chr(ord("a") + number % 26) for number in range(1700))  # 26 divides no piece's length
PRODUCTS = [
    {"product_id": "1", "title": "Lid", "bullets": LONG[:900], "description": LONG[901:], "brand": "ACME"},
    {"product_id": "2", "title": "Cup", "description": LONG[:799], "brand": "ACME"},
    {"product_id": "3", "title": "Mug", "bullets": LONG[:800]},
    {"product_id": "4", "bullets": "鍋" * 300, "locale": "jp"},
]
EXAMPLES = [
    {"query": "pan", "product_id": "1", "label": "C", "weight": 0.5, "split": "train"},
    {"query": "pot", "product_id": "1", "label": "I", "split": "train"},
    {"query": "pan", "product_id": "2", "label": "C", "split": "train"},
    {"query": "pan", "product_id": "3", "label": "E", "split": "train"},
    {"query": "cup", "product_id": "3", "label": "I", "split": "test"},
    {"query": "鍋", "product_id": "4", "label": "I", "split": "train", "locale": "jp"},
]


@pytest.fixture
def shop(tmp_path):
    """Prepare tiny tables with class balance; give the manifest, and by name the tables that were written."""

    def prepare_shop(step, products=PRODUCTS, **options):
        for name, records in (("e", EXAMPLES), ("p", products)):
            lines = "".join(json.dumps(record) + "\n" for record in records)
            (tmp_path / f"{name}.jsonl").write_text(lines, "utf-8")
        files = {"examples": tmp_path / "e.jsonl", "products": tmp_path / "p.jsonl"}
        return prepare(None, tmp_path / "out", **files, steps=[step], overwrite=True, **options)

    prepare_shop.read = lambda name: pl.read_parquet(tmp_path / "out" / f"{name}.parquet")
    prepare_shop.out = tmp_path / "out"
    return prepare_shop


def test_long_texts_of_rare_labels_are_cut_into_equal_pieces(shop):
    shop(Rebalance())
    made = shop.read("products").filter(origin="balanced")
    text = f"{LONG[:900]} {LONG[901:]}"
    pieces = [f"Lid {text[:566]}", f"Lid {text[566:1133]}", f"Lid {text[1133:]}"]
    assert made["product_title"].to_list() == [*pieces, "鍋" * 150, "鍋" * 150]
    ids = [*(f"1~balanced-{number}" for number in (1, 2, 3)), *(f"4~balanced-{number}" for number in (1, 2))]
    assert made["product_id"].to_list() == ids
    assert made["product_locale"].to_list() == ["us"] * 3 + ["jp"] * 2
    for empty in ("product_brand", "product_bullet_point", "product_description", "product_color"):
        assert made[empty].null_count() == 5


def test_pieces_have_none_of_the_columns_that_are_kept(shop):
    shop(Rebalance(), [{**product, "price": 3} for product in PRODUCTS], keep=["price"])
    products = shop.read("products")
    assert products.filter(origin="balanced")["price"].null_count() == 5
    assert products.filter(origin="catalogue")["price"].to_list() == ["3"] * len(PRODUCTS)


def test_pieces_keep_all_but_weight_of_their_pair_and_are_never_tested(shop):
    manifest = shop(Rebalance())
    made = shop.read("examples").filter(pl.col("origin") == "balanced")
    judged = shop.read("examples").filter(pl.col("origin") == "judged")
    assert made.select("query", "esci_label", "weight").rows() == [
        *[("pan", "C", pytest.approx(0.15))] * 3,
        *[("pot", "I", pytest.approx(0.3))] * 3,
        *[("鍋", "I", pytest.approx(0.3))] * 2,
    ]
    same = ["query", "query_id", "product_locale", "fold", "split", "small_version", "large_version"]
    assert made.select(same).unique().join(judged, on=same, how="anti", nulls_equal=True).is_empty()
    assert made["example_id"].to_list() == list(range(6, 14))
    assert manifest["steps"][-1] == {"step": "rebalance", "read": 6, "made": 8, "dropped": {}, "kept": 14}
    assert manifest["examples"]["by_origin"] == {"balanced": 8, "judged": 6}
    assert (manifest["products"]["kept"], manifest["products"]["made"]) == (4, {"balanced": 5})
    assert manifest["products"]["with_text"]["any"] == 4


def test_vocabularies_count_the_catalogue_alone(shop):
    with_pieces = shop(Rebalance())["vocabulary"]
    trigrams = pq.read_table(shop.out / "vocabulary" / "trigrams.parquet")
    assert Vocabulary.load(shop.out / "vocabulary" / "brands.parquet") == Vocabulary(("acme",), (2,))
    assert shop(Rebalance(labels=("S",)))["vocabulary"] == with_pieces
    assert pq.read_table(shop.out / "vocabulary" / "trigrams.parquet").equals(trigrams)


def test_made_ids_cannot_collide_with_those_of_the_catalogue(shop):
    taken = {"product_id": "1~balanced-1", "title": "Somebody's own"}
    shop(Rebalance(), [*PRODUCTS, taken])
    products = shop.read("products")
    assert products.filter(product_title="Somebody's own")["product_id"].to_list() == ["1~balanced-1"]
    assert products.filter(origin="balanced")["product_id"].to_list()[0] == "1~~balanced-1"
    assert products.select("product_locale", "product_id").is_unique().all()


def test_nothing_comes_out_where_nothing_is_long_enough(shop):
    manifest = shop(Rebalance(characters=5000, characters_jp=5000))
    assert manifest["steps"][-1] == {"step": "rebalance", "read": 6, "made": 0, "dropped": {}, "kept": 6}
    assert manifest["products"]["made"] == {"balanced": 0}


def test_the_command_line_balances_drops_and_says_so(shop, tmp_path, capsys):
    shop(Rebalance())
    (tmp_path / "i.csv").write_text("example_id\n0\n4\n", "utf-8")
    tables = ["--examples", f"{tmp_path / 'e.jsonl'}", "--products", f"{tmp_path / 'p.jsonl'}"]
    options = ["--balance", "--drop-issues", f"{tmp_path / 'i.csv'}", "--on-bad-rows", "drop", "--overwrite"]
    with pytest.raises(SystemExit) as ended:
        main(["prepare", f"{shop.out}", *tables, *options])
    assert not ended.value.code
    said = capsys.readouterr().out
    assert "drop issues: 1 pairs have weight 0" in said
    assert "1 × not a training example" in said
    assert "rebalance: 5 training pairs made" in said
    assert shop.read("examples").filter(origin="balanced")["query"].to_list() == ["pot"] * 3 + ["鍋"] * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": ("X",)}, "are not labels\nPossible: E, S, C, I."),
        ({"labels": ()}, "are not labels"),
        ({"characters_jp": 1}, "characters_jp=1: must be at least 2"),
        ({"weight": -0.1}, "weight=-0.1: must be at least 0"),
    ],
)
def test_values_that_cannot_be_are_refused(options, message):
    with pytest.raises(UserError) as error:
        Rebalance(**options)
    assert message in str(error.value)

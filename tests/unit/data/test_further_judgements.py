"""`prepare --judgements`: further sources of judgements, each with a weight, kept out of test."""

import csv
import json

import polars as pl
import pytest

from zhichun.cli import main
from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.data.dataset import Dataset, in_test
from zhichun.data.prepare.prepare import prepare
from zhichun.measure.evaluate import rows_of

QUERIES = [f"shoe {number}" for number in range(40)]
TESTED = [query for query in QUERIES if in_test(query, 0.1)]
TRAINED = [query for query in QUERIES if query not in TESTED]
NAMES = ("query", "product_id", "label", "judge")


@pytest.fixture
def shop(tmp_path):
    """Prepare judgements of people beside those of further sources; gives the manifest."""
    products = "".join(json.dumps({"product_id": str(number), "title": f"shoe {number}"}) + "\n" for number in range(9))
    (tmp_path / "p.jsonl").write_text(products)

    def write(name, rows, names=NAMES):
        with (tmp_path / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([names, *rows])
        return tmp_path / name

    def prepare_shop(rows, *further, names=NAMES[:3], **options):
        judgements = [(write(f"llm{place}.csv", rows), weight) for place, (rows, weight) in enumerate(further)]
        files = {"examples": write("e.csv", rows, names), "products": tmp_path / "p.jsonl"}
        return prepare(None, tmp_path / "out", **files, judgements=judgements, overwrite=True, **options)

    prepare_shop.write = write
    prepare_shop.read = lambda name: pl.read_parquet(tmp_path / "out" / f"{name}.parquet")
    return prepare_shop


def people():
    return [(query, "1", "E") for query in QUERIES]


def test_they_add_pairs_with_their_weight_and_never_to_test(shop):
    llm = [(query, "2", "S", "llm") for query in QUERIES] + [("new query", "1", "C", "llm")]
    assert TESTED
    manifest = shop(people(), (llm, 0.5))
    examples = shop.read("examples")
    added = examples.filter(pl.col("origin") == schema.ADDED)
    new = [] if in_test("new query", 0.1) else ["new query"]
    assert sorted(added["query"]) == sorted(TRAINED + new)
    assert set(added["split"]) == {"train"}
    assert set(added["weight"]) == {0.5}
    assert set(examples.filter(pl.col("origin") == schema.JUDGED)["weight"]) == {1.0}
    assert len(examples.filter(pl.col("split") == "test")) == len(TESTED)
    counts = manifest["examples"]
    assert counts["read"] == len(QUERIES) + len(llm) == counts["kept"] + sum(counts["dropped"].values())
    assert counts["dropped"] == {"further judgement of a test query": len(TESTED) + 1 - len(new)}
    rejected = shop.read("rejected")
    assert set(rejected["file"]) == {"llm0.csv"}
    assert rejected["row"].to_list()[0] == QUERIES.index(TESTED[0]) + 1
    assert counts["made"] == {}
    assert manifest["options"]["judgements"] == [0.5]
    assert [source["part"] for source in manifest["sources"]] == ["examples", "products", "judgements"]


def test_they_judge_test_queries_where_that_is_wanted(shop):
    llm = [(query, "2", "S", "llm") for query in QUERIES]
    shop(people(), (llm, 0.5), judgements_in_test=True)
    tested = shop.read("examples").filter(pl.col("split") == "test")
    assert len(tested) == 2 * len(TESTED)
    assert set(tested["origin"]) == {schema.JUDGED, schema.ADDED}
    dataset = Dataset.open(shop.write("any", []).with_name("out"))
    assert len(rows_of(dataset, "test")) == len(tested)
    assert len(rows_of(dataset, "all")) == len(QUERIES) + len(TESTED), "and of those of training only people's"


def test_a_test_split_of_theirs_alone_is_one(shop):
    trained = [(query, "1", "E") for query in TRAINED]
    llm = [(query, "2", "S", "llm") for query in TESTED]
    warned = [shop(trained, (llm, 0.5), judgements_in_test=wanted)["warnings"] for wanted in (False, True)]
    assert ["no test query" in " ".join(lines) for lines in warned] == [True, False]


def test_their_weight_counts_where_several_judges_become_one(shop):
    query = TRAINED[0]
    said = [(query, "1", "S", "a")]
    for others, label in (((0.5,), "E"), ((0.5, 0.6), "S"), ((2.0,), "S"), ((0.4, 0.6), "S")):
        shop(people(), *[([(*row[:3], f"llm {place}") for row in said], w) for place, w in enumerate(others)])
        (row,) = shop.read("examples").filter(query=query).rows(named=True)
        assert (row["esci_label"], row["weight"], row["origin"]) == (label, 1.0, schema.JUDGED)
    shop(people(), (said, 0.5), judges="distribution")
    (row,) = shop.read("examples").filter(query=query).rows(named=True)
    assert list(row["label_shares"]) == pytest.approx([2 / 3, 1 / 3, 0, 0])
    shop(people(), ([(query, "1", "I", "a")], 0.5), judges="mean", labels={"3": "E", "2": "S", "1": "C", "0": "I"})
    (row,) = shop.read("examples").filter(query=query).rows(named=True)
    assert (row["esci_label"], row["judged_gain"]) == ("S", pytest.approx(2 / 3))


def test_pairs_of_people_keep_their_ids_and_labels_whatever_is_added(shop):
    names = ("query", "product_id", "label", "example_id", "query_id")
    rows = [(*row, 100 + place, 7 * place) for place, row in enumerate(people())]
    llm = [(query.upper(), "2", "I", "llm") for query in QUERIES]
    shop(rows, names=names)
    alone = shop.read("examples")
    manifest = shop(rows, (llm, 0.5), names=names)
    both = shop.read("examples")
    assert manifest["examples"]["ids"] == {"query_id": "given", "example_id": "given"}
    assert both.filter(origin=schema.JUDGED).equals(alone)
    assert both["example_id"].is_unique().all()
    ids = {(query.lower(), number) for query, number in both.select("query", "query_id").rows()}
    assert ids == {*alone.select("query", "query_id").rows()}


def test_a_split_that_the_file_names_holds_for_them(shop):
    rows = [(query, "1", "E", "test" if place < 3 else "train") for place, query in enumerate(QUERIES)]
    llm = [(query, "2", "S", "llm") for query in (*QUERIES, *(f"new {number}" for number in range(30)))]
    shop(rows, (llm, 1), names=("query", "product_id", "label", "split"))
    added = shop.read("examples").filter(origin=schema.ADDED)
    assert len(added) == len(QUERIES) - 3 + 30
    assert set(added["split"]) == {"train"}


def test_they_are_never_validated_on_and_stand_in_their_querys_list(shop, tmp_path):
    llm = [(query, "2", "S", "llm") for query in QUERIES]
    shop([*people(), *[(f"more {number}", "1", "I") for number in range(200)]], (llm, 0.5))
    dataset = Dataset.open(tmp_path / "out")
    training, validation = dataset.split(None)
    origins = dataset.column(schema.ORIGIN)
    assert set(origins[validation]) == {schema.JUDGED}
    assert schema.ADDED in origins[training]
    query = TRAINED[0]
    rows = [row for row, text in enumerate(dataset.column(schema.QUERY)) if text == query]
    assert len(rows) == 2
    assert len({dataset.list_row[row] for row in rows}) == 1


def test_what_failed_and_who_is_not_named(shop):
    manifest = shop(people(), ([(TRAINED[0], "2", "", "llm"), (TRAINED[1], "2", "S", "")], 0.5))
    assert manifest["examples"]["dropped"] == {"not judged": 1}
    with pytest.raises(UserError, match=r"2 × two labels by one judge(.*\n)+.*llm0\.csv, row 1: .*'2' by 'llm0'"):
        shop(people(), ([(TRAINED[1], "2", "S", ""), (TRAINED[1], "2", "E", None)], 0.5))


def test_predictions_of_judged_pairs_are_refused(shop):
    names = ("query", "product_id", "p_E", "p_S", "p_C", "p_I", "label", "gain")
    rows = [(query, number, 0.7, 0.1, 0.1, 0.1, "E", 0.7) for query in TRAINED[:2] for number in "12"]
    file = shop.write("scored.csv", rows, names)
    shop(people())
    options = {"examples": shop.write("e.csv", people(), NAMES[:3]), "products": file.with_name("p.jsonl")}
    out = file.with_name("out")
    with pytest.raises(UserError, match=r"2 × predicted by a model(.*\n)+A run has learnt the labels of the pairs"):
        prepare(None, out, **options, judgements=[(file, 0.5)], overwrite=True)
    manifest = prepare(None, out, **options, judgements=[(file, 0.5)], overwrite=True, on_bad_rows="drop")
    assert manifest["examples"]["dropped"] == {"predicted by a model, not judged": 2}
    # An LLM has probabilities too, and says who it is.
    judged = shop.write("llm.csv", [(*row[:6], "E", "llm") for row in rows], (*names[:7], "judge"))
    manifest = prepare(None, out, **options, judgements=[(judged, 0.5)], overwrite=True)
    assert manifest["examples"]["dropped"] == {"one of several judgements": 2}


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf")])
def test_a_weight_is_above_nothing(shop, weight):
    with pytest.raises(UserError, match="A weight is a number above 0"):
        shop(people(), ([], weight))


def test_the_command_takes_files_with_weights(shop, tmp_path, capsys):
    shop(people())
    files = ["--examples", str(tmp_path / "e.csv"), "--products", str(tmp_path / "p.jsonl"), "--overwrite"]
    llm = shop.write("a:b.csv", [(TRAINED[0], "2", "S", "llm")])
    with pytest.raises(SystemExit) as ended:
        main(["prepare", str(tmp_path / "out"), *files, "--judgements", f"{llm}:0.25"])
    assert not ended.value.code
    assert shop.read("examples").filter(origin=schema.ADDED)["weight"].to_list() == [0.25]
    with pytest.raises(SystemExit) as ended:
        main(["prepare", str(tmp_path / "out"), *files, "--judgements", str(tmp_path / "llm.csv")])
    assert ended.value.code == 2
    assert "FILE:0.5" in capsys.readouterr().err

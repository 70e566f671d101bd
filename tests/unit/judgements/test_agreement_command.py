"""What `zhichun agreement` shows and writes, and the raters beside a model in `zhichun evaluate`."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scoring_stub import Stub

from zhichun.cli import main
from zhichun.cli.options import stdout
from zhichun.cli.tables import raters_table
from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.schema import LABELS
from zhichun.data.dataset import Dataset
from zhichun.data.readers.pair_tables import append_columns
from zhichun.data.readers.ratings import read_ratings
from zhichun.judgements.agreement import disagreements, measure_agreement
from zhichun.measure.evaluate import beside_raters
from zhichun.metrics.significance import Interval

GRADES = {"3": "E", "2": "S", "1": "C", "0": "I"}


@pytest.fixture
def ratings(tiny_dataset, tmp_path) -> Path:
    """Three judges of every pair of a dataset, who say the label or anything: one is better than the others."""
    dataset, rng = Dataset.open(tiny_dataset), np.random.default_rng(0)
    lines = ["query,product_id,product_locale,judge,label"]
    for row in dataset.examples.to_pylist():
        label = LABELS.index(row[schema.LABEL])
        said = {"[a]": label if rng.random() < 0.9 else rng.integers(4)}
        said |= {judge: label if rng.random() < 0.7 else rng.integers(4) for judge in ("b", "c")}
        where = f'"{row[schema.QUERY]}",{row[schema.PRODUCT_ID]},{row[schema.LOCALE]}'
        lines += [f"{where},{judge},{LABELS[code]}" for judge, code in said.items()]
    (tmp_path / "ratings.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "ratings.csv"


def test_the_command_shows_figures_by_locale_label_and_rater_and_writes_them(ratings, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["agreement", str(ratings), "--draws", "50", "--out", str(tmp_path / "found")])
    assert ended.value.code in (0, None)
    shown = capsys.readouterr().out
    for text in ("b and c", "E against", "us", "jp", "[a]", "Ceiling", "independently"):
        assert text in shown
    found = json.loads((tmp_path / "found" / "agreement.json").read_text())
    kappas = {who: of["kappa"]["value"] for who, of in found["between"].items()}
    assert kappas["b and c"] < min(kappas["[a] and b"], kappas["[a] and c"]) < 0.8
    assert found["raters"]["[a]"]["micro_f1"]["value"] > found["raters"]["b"]["micro_f1"]["value"]
    assert sum(of["share"] for of in found["by_label"].values()) == pytest.approx(1)


def test_what_is_not_defined_is_null_and_raters_without_a_common_pair_are_not_beside_each_other(tmp_path):
    rows = [f"shoe,{product},{judge},E" for product, judges in ((1, "ab"), (2, "ac")) for judge in judges]
    (tmp_path / "ratings.csv").write_text("\n".join(["query,product_id,judge,label", *rows]) + "\n")
    with pytest.raises(SystemExit) as ended:
        main(["agreement", str(tmp_path / "ratings.csv"), "--draws", "10", "--out", str(tmp_path / "found")])
    assert ended.value.code in (0, None)
    found = json.loads((tmp_path / "found" / "agreement.json").read_text(), parse_constant=pytest.fail)
    assert found["all"]["kappa"]["value"] is None
    assert list(found["between"]) == ["a and b", "a and c"]


@pytest.fixture
def judged(tiny_dataset, tmp_path) -> Path:
    """What an LLM said of each pair: the label, but that it takes half of what is Exact for a Substitute."""
    dataset, rng = Dataset.open(tiny_dataset), np.random.default_rng(1)
    rows = []
    for row in dataset.examples.to_pylist():
        label = "S" if row[schema.LABEL] == "E" and rng.random() < 0.5 else row[schema.LABEL]
        locale = {"us": "en-US"}.get(row[schema.LOCALE], row[schema.LOCALE])
        rows.append(
            {"query": row[schema.QUERY], "product_id": row[schema.PRODUCT_ID], "locale": locale, "judge": "LLM"}
        )
        rows[-1] |= {"label": label, "reason": "<b>it is & is not</b>"}
    (tmp_path / "llm.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return tmp_path / "llm.jsonl"


def test_a_judge_s_strictness_is_said_in_words_and_its_disagreements_stand_on_a_page(
    ratings, judged, tiny_dataset, tmp_path, capsys
):
    options = ["--draws", "100", "--products", str(tiny_dataset), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as ended:
        main(["agreement", str(ratings), str(judged), *options])
    assert ended.value.code in (0, None)
    shown = " ".join(capsys.readouterr().out.split())
    assert "llm: too strict on Exact" in shown
    assert "llm: says Substitute too often" in shown
    page, found = (
        (tmp_path / "out" / "index.html").read_text(),
        json.loads((tmp_path / "out/agreement.json").read_text()),
    )
    assert "&lt;b&gt;it is &amp; is not&lt;/b&gt;" in page
    assert "<b>it is" not in page
    llm = found["beside"]["llm"]
    assert llm["confusion"][0][1] > 0.3 * sum(llm["confusion"][0])
    assert llm["share.0.1"]["value"] == pytest.approx(llm["confusion"][0][1] / sum(llm["confusion"][0]))
    assert llm["bias.0"]["high"] < 0 < llm["bias.1"]["low"]
    assert llm["stricter"]["low"] > 0
    assert set(llm["by_locale"]) == {"us", "es", "jp"}
    assert set(llm["in_place_of"]) == {"[a]", "b", "c"}
    assert set(found["raters"]) == {"[a]", "b", "c", "llm"}
    people = measure_agreement(read_ratings(ratings), draws=100)
    for part in ("all", "by_locale", "by_label", "ceiling"):  # of people alone
        assert found[part] == people[part]


def test_the_level_of_a_judge_is_that_of_the_best_rater_whom_it_is_not_worse_than(ratings, judged, tmp_path):
    rows = [json.loads(line) for line in judged.read_text().splitlines()]
    rng = np.random.default_rng(5)
    levels = {}
    for name, right in (("truth", 1.0), ("as-b", 0.7), ("noise", 0.1)):
        truth = {
            (row["query"], row["product_id"], row["locale"]): ("E" if row["label"] == "S" else row["label"])
            for row in rows
        }
        lines = ["query,product_id,locale,label"]
        for (query, product, locale), label in truth.items():
            said = label if rng.random() < right else LABELS[rng.integers(4)]
            lines.append(f'"{query}",{product},{locale},{said}')
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n")
        found = measure_agreement(read_ratings(ratings, tmp_path / f"{name}.csv"), draws=200)
        levels[name] = found["beside"][f"{name}.csv"]["verdict"][0]
    assert levels["truth"].startswith(("better than your best rater ([a])", "at the level of your best rater ([a])"))
    assert levels["as-b"].startswith(("at the level of your ", "not shown to be below your "))
    assert "[a]" not in levels["as-b"]
    assert levels["noise"] == "below the level of your raters"


def test_a_run_s_scored_file_is_held_against_people_by_the_labels_that_it_gives(ratings, tiny_dataset, tmp_path):
    dataset = Dataset.open(tiny_dataset)
    shown = Stub().task.of_probabilities(
        np.eye(4)[3 - dataset.labels]
    )  # always the opposite, which it is not judged by
    table = append_columns(dataset.examples, shown)
    pq.write_table(table, tmp_path / "scored.parquet")
    rated = read_ratings(ratings, tmp_path / "scored.parquet")
    assert rated.judged == ("scored.parquet",)
    found = measure_agreement(rated, draws=20)["beside"][rated.judged[0]]
    assert np.trace(np.asarray(found["confusion"])) < 0.3 * found["pairs"]
    assert measure_agreement(read_ratings(ratings).judging(["B"]), draws=20)["beside"]["b"]["in_place_of"]


def test_raters_who_cannot_be_held_against_others_are_refused(ratings, tmp_path):
    rated = read_ratings(ratings)
    with pytest.raises(UserError, match="no rater 'd'"):
        rated.judging(["d"])
    with pytest.raises(UserError, match="no rater is left"):
        rated.judging(["[a]", "b", "c"])
    (tmp_path / "more.csv").write_text(ratings.read_text())  # of the same people
    with pytest.raises(UserError, match=r"no rater is left(.|\n)*into the first table"):
        read_ratings(ratings, tmp_path / "more.csv")
    (tmp_path / "other.csv").write_text("query,product_id,label\nshoe,1,E\n")
    with pytest.raises(UserError, match=r"no pair was rated by .*other\.csv"):
        measure_agreement(read_ratings(ratings, tmp_path / "other.csv"), draws=20)


def test_what_is_farthest_from_people_who_agree_is_read_first(tmp_path):
    people = ["x,1,a,E", "x,1,b,E", "x,2,a,E", "x,2,b,I", "x,3,a,I", "x,3,b,I", "x,4,a,S", "x,4,b,S"]
    (tmp_path / "ratings.csv").write_text("\n".join(["query,product_id,judge,label", *people]))
    (tmp_path / "llm.csv").write_text("query,product_id,label\nx,1,S\nx,2,E\nx,3,E\nx,4,S\n")
    count, rows = disagreements(read_ratings(tmp_path / "ratings.csv", tmp_path / "llm.csv"), {("us", "3"): "hat"})
    assert count == 3  # all say S of the fourth
    assert [row["product"] for row in rows] == ["3", "1", "2"]
    assert rows[0]["title"] == "hat"


def test_a_model_stands_between_its_raters_and_the_ceiling(ratings, tiny_dataset):
    dataset = Dataset.open(tiny_dataset)
    rows = np.flatnonzero(dataset.column(schema.SPLIT) == "train")
    task = Stub().task
    truth = task.of_probabilities(np.eye(4)[dataset.labels[rows]])
    found = beside_raters(truth, dataset, rows, read_ratings(ratings))
    raters = {who: of["micro_f1"]["value"] for who, of in found["raters"].items()}
    model, best = (found[who]["micro_f1"]["value"] for who in ("model", "ceiling"))
    assert found["pairs"] == len(rows)
    assert raters["b"] < raters["[a]"] < model
    assert model == pytest.approx(best, abs=0.05)  # it knows what was drawn from
    assert list(found["model"]) == ["ndcg", "ndcg@10", "micro_f1", "macro_f1"]


def test_a_figure_beside_the_raters_that_is_not_defined_is_null(ratings, tiny_dataset, monkeypatch):
    undefined = {"ndcg": Interval(0.5, float("nan"), float("nan"))}
    monkeypatch.setattr("zhichun.measure.evaluate.ceiling", lambda ratings: undefined)
    dataset, rows = Dataset.open(tiny_dataset), np.arange(20)
    truth = Stub().task.of_probabilities(np.eye(4)[dataset.labels[rows]])
    found = beside_raters(truth, dataset, rows, read_ratings(ratings))
    assert found["ceiling"] == {"ndcg": {"value": 0.5, "low": None, "high": None}}
    json.dumps(found, allow_nan=False)


def test_raters_who_are_called_as_the_table_s_own_rows_have_rows_of_their_own(ratings, tiny_dataset, tmp_path, capsys):
    text = ratings.read_text()
    for own, name in (("[a]", "Ceiling"), ("b", "model"), ("c", "rater 0")):
        text = text.replace(f",{own},", f",{name},")
    ratings.write_text(text)
    with pytest.raises(SystemExit):
        main(["agreement", str(ratings), "--draws", "20", "--out", str(tmp_path / "out")])
    row, raters = r"│ (\S+(?: \S+)?) +│ +0\.\d", ["ceiling", "model", "rater 0"]
    assert re.findall(row, capsys.readouterr().out.partition("each rater against")[2]) == [*raters, "Ceiling"]
    page = (tmp_path / "out" / "index.html").read_text().partition("Each rater against")[2].partition("</table>")[0]
    assert re.findall(r'"row">(.+)</th>\s*<td>0\.\d', page) == [*raters, "Ceiling"]
    dataset = Dataset.open(tiny_dataset)
    truth = Stub().task.of_probabilities(np.eye(4)[dataset.labels])
    found = beside_raters(truth, dataset, np.arange(len(dataset.labels)), read_ratings(ratings))
    stdout.print(raters_table("beside the model", found))
    assert re.findall(row, capsys.readouterr().out) == ["Model", *raters, "Ceiling"]


def test_ratings_of_other_pairs_say_nothing_of_a_model(tmp_path, tiny_dataset):
    dataset = Dataset.open(tiny_dataset)
    (tmp_path / "other.csv").write_text("query,product_id,judge,label\nshoe,1,a,E\nshoe,1,b,E\n")
    rows = np.arange(3)
    truth = Stub().task.of_probabilities(np.eye(4)[dataset.labels[rows]])
    with pytest.raises(UserError, match="no pair that is evaluated was rated by two"):
        beside_raters(truth, dataset, rows, read_ratings(tmp_path / "other.csv"))


@pytest.mark.skipif("CHORUS_DATA" not in os.environ, reason="CHORUS_DATA names no ratings")
def test_chorus_agrees_as_its_description_says():
    found = measure_agreement(read_ratings(Path(os.environ["CHORUS_DATA"]) / "ratings.csv", labels=GRADES), draws=50)
    assert found["pairs"] == 3188
    assert found["all"]["unanimous"]["value"] == pytest.approx(0.715, abs=0.0005)
    kappas = [of["kappa"]["value"] for of in found["between"].values()]
    squared = [of["quadratic_kappa"]["value"] for of in found["between"].values()]
    assert (min(kappas), max(kappas)) == pytest.approx((0.60, 0.68), abs=0.005)
    assert (min(squared), max(squared)) == pytest.approx((0.74, 0.80), abs=0.005)
    assert found["raters"]["judge1"]["ndcg"]["value"] < found["ceiling"]["ndcg"]["value"] < 1


def test_people_who_split_the_work_are_what_a_judge_of_all_is_held_against(tmp_path):
    rows = [f"shoe {query},1,{'ab'[query % 2]},{LABELS[query % 4]}" for query in range(12)]
    (tmp_path / "people.csv").write_text("\n".join(["query,product_id,judge,label", *rows]))
    (tmp_path / "llm.csv").write_text("\n".join(["query,product_id,label", *(row[:-3] + row[-1] for row in rows)]))
    found = measure_agreement(read_ratings(tmp_path / "people.csv", tmp_path / "llm.csv"), draws=20)
    assert found["ceiling"] == {}
    assert not found["people"]
    assert (found["pairs"], found["beside"]["llm.csv"]["kappa"]["value"]) == (12, 1)


def test_a_locale_of_one_query_has_figures_without_intervals_and_no_bias(tmp_path):
    rows = [("shoe", "es", product, judge, "I" if judge == "c" else "E") for product in range(4) for judge in "abc"]
    rows += [(f"mug {n % 9}", "us", n, judge, LABELS[n % 4]) for n in range(40) for judge in "abc"]
    lines = [",".join(map(str, row)) for row in rows]
    (tmp_path / "ratings.csv").write_text("\n".join(["query,locale,product_id,judge,label", *lines]))
    with pytest.raises(SystemExit) as ended:
        main(["agreement", str(tmp_path / "ratings.csv"), "--draws", "20", "--out", str(tmp_path / "out")])
    assert ended.value.code in (0, None)
    found = json.loads((tmp_path / "out" / "agreement.json").read_text(), parse_constant=pytest.fail)
    assert found["by_locale"]["es"]["unanimous"] == {"value": 0.0, "low": None, "high": None}
    assert not any("in es" in line for of in found["beside"].values() for line in of["verdict"])


def test_few_pairs_are_not_the_level_of_anybody(tmp_path):
    rng = np.random.default_rng(3)
    truth = [(f"q{n % 5}", n, rng.integers(4)) for n in range(12)]
    people = [f"{q},{n},{judge},{LABELS[code]}" for q, n, code in truth for judge in "ab"]
    (tmp_path / "people.csv").write_text("\n".join(["query,product_id,judge,label", *people]))
    llm = [f"{q},{n},{LABELS[code if n % 3 else (code + 1) % 4]}" for q, n, code in truth]
    (tmp_path / "llm.csv").write_text("\n".join(["query,product_id,label", *llm]))
    rated = read_ratings(tmp_path / "people.csv", tmp_path / "llm.csv")
    verdict = measure_agreement(rated, draws=100)["beside"]["llm.csv"]["verdict"][0]
    assert verdict.startswith(("not shown to be below your ", "below the level"))


def test_titles_are_read_by_own_column_names_and_products_that_cannot_be_used_have_none(
    ratings, tiny_dataset, tmp_path
):
    products = pq.read_table(tiny_dataset / "products.parquet").to_pylist()
    lines = [{"sku": row[schema.PRODUCT_ID], "locale": row[schema.LOCALE], "name": "the name"} for row in products]
    (tmp_path / "shop.jsonl").write_text("\n".join(json.dumps(row) for row in [*lines, {"sku": "", "name": "none"}]))
    columns = "products.product_id=sku,products.title=name,label=label"
    options = ["--draws", "10", "--products", str(tmp_path / "shop.jsonl"), "--columns", columns]
    with pytest.raises(SystemExit) as ended:
        main(["agreement", str(ratings), *options, "--out", str(tmp_path / "out")])
    assert ended.value.code in (0, None)
    assert "the name" in (tmp_path / "out" / "index.html").read_text()


def test_a_model_that_names_a_label_only_where_it_is_sure_judges_every_pair(ratings, tiny_dataset, tmp_path):
    rows = Dataset.open(tiny_dataset).examples.to_pylist()
    lines = []
    for place, row in enumerate(rows):
        pair = {name: row[name] for name in (schema.QUERY, schema.PRODUCT_ID, schema.LOCALE)}
        label = row[schema.LABEL] if place % 2 else None
        lines.append(pair | {"label": label, "p_E": 0.1, "p_S": 0.6, "p_C": 0.2, "p_I": 0.1})
    (tmp_path / "scored.jsonl").write_text("\n".join(map(json.dumps, lines)))
    rated = read_ratings(ratings, tmp_path / "scored.jsonl")
    assert rated.passed_over == 0
    given = rated.ratings.codes_PJ[:, rated.raters.index("scored.jsonl")]
    unsure = {(row[schema.QUERY], row[schema.PRODUCT_ID]) for row in rows[::2]}
    said = [code for pair, code in zip(rated.pairs, given, strict=True) if (pair[0], pair[2]) in unsure]
    assert said
    assert {*said} == {LABELS.index("S")}


@pytest.mark.parametrize("of_one_query", [True, False])
def test_what_the_ratings_do_not_say_is_said(of_one_query, tmp_path, capsys):
    queries = [0 if of_one_query else product for product in range(12)]
    rows = [
        f"shoe {q},{p},{judge},{LABELS[(p + place) % 3]}"
        for p, q in enumerate(queries)
        for place, judge in enumerate("abc")
    ]
    rows += [f"shoe 0,{product}.0,d,E" for product in range(7)]  # ids that a spreadsheet has made numbers
    (tmp_path / "ratings.csv").write_text("\n".join(["query,product_id,judge,label", *rows]))
    with pytest.raises(SystemExit):
        main(["agreement", str(tmp_path / "ratings.csv"), "--draws", "20"])
    said = " ".join(capsys.readouterr().out.split())
    assert "7 ratings are of pairs that nobody else rated and were skipped" in said
    assert re.search(r"Ceiling │ 0\.\d", said)
    assert ("nDCG" in said, "every query has one product" in said) == (of_one_query, not of_one_query)


@pytest.mark.parametrize(("queries", "is_said"), [(3, False), (24, True)])
def test_a_bias_is_said_of_enough_queries(queries, is_said, tmp_path):
    rows = [
        f"shoe {query},{product},{judge},{'E' if judge == 'c' and product == 1 else 'ESI'[product % 3]}"
        for query in range(queries)
        for product in range(6)
        for judge in "abc"
    ]
    (tmp_path / "ratings.csv").write_text("\n".join(["query,product_id,judge,label", *rows]))
    found = measure_agreement(read_ratings(tmp_path / "ratings.csv"), draws=50)["beside"]["c"]
    assert found["bias.0"]["low"] > 0
    assert any("too lenient on Exact" in line for line in found["verdict"]) == is_said
    assert (found["queries"], found["pairs"]) == (queries, 6 * queries)

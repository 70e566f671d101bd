"""Two systems beside each other: what is compared, what is found, and which gates fail."""

import json
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zhichun.cli import main
from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.tasks import TASKS, gain_vector
from zhichun.data.dataset import Dataset
from zhichun.data.prepare.prepare import prepare
from zhichun.data.readers.pair_tables import append_columns
from zhichun.data.sample_shop import write_sample_shop
from zhichun.measure.compare import Gate, Part, compare, judge_gates, measure_parts, metric_of, moved_most
from zhichun.measure.evaluate import evaluate
from zhichun.measure.systems import common_rows, read_systems, segments_of
from zhichun.metrics import MRR, Judged, MicroF1, Precision, nDCG
from zhichun.metrics.significance import holm

LOCALES = ("us", "es", "jp")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A dataset of 240 queries, half of them for testing."""
    folder = tmp_path_factory.mktemp("compared")
    write_sample_shop(folder / "shop", products=300, queries=240)
    prepare(folder / "shop", folder / "data", test_share=0.5)
    return folder / "data"


def read_system(place, *dataset_and_rows, **named):
    [system] = read_systems([place], *dataset_and_rows, **named)
    return system


def judged_rows(dataset):
    return np.flatnonzero(dataset.column(schema.ORIGIN) == schema.JUDGED)


def noisy(dataset, rows, seed, scale=0.3):
    return gain_vector()[dataset.labels[rows]] + np.random.default_rng(seed).normal(size=len(rows)) * scale


def ranking(dataset, rows, scores, path, extra=()):
    """Write a ranking of another system: the first five of every query, by rank."""
    lines = ["search_term;sku;position"]
    queries, ids = dataset.column(schema.QUERY)[rows], dataset.column(schema.PRODUCT_ID)[rows]
    for query in dict.fromkeys(queries.tolist()):
        of_query = np.flatnonzero(queries == query)
        best = of_query[np.argsort(-scores[of_query], kind="stable")[:5]]
        lines += [f"{query.upper()};{ids[row]};{place}" for place, row in enumerate(best, start=1)]
    path.write_text("\n".join([*lines, *extra]) + "\n")
    return path


def scored(dataset, rows, seed, path, sharp=4.0):
    """Write what `zhichun score` writes: probabilities near the truth."""
    logits = np.eye(4)[dataset.labels[rows]] * sharp + np.random.default_rng(seed).normal(size=(len(rows), 4)) * 2
    pq.write_table(append_columns(dataset.examples.take(pa.array(rows)), TASKS["esci"].predict(logits)), path)
    return path


def test_a_metric_is_known_by_our_name_and_by_that_of_ir_measures():
    assert metric_of("nDCG@20") == nDCG() @ 20
    assert metric_of("ndcg") == nDCG()
    assert metric_of("P@5") == Precision() @ 5
    assert metric_of("RR@10") == MRR() @ 10
    assert metric_of("micro_f1") == MicroF1()
    assert metric_of("P(rel=2)@5") == Precision(relevant=("E", "S")) @ 5
    assert Gate.read("RR(rel=1) >= -0.01").metric == MRR(relevant=("E", "S", "C"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ndcg@10", "no gate.*ndcg@10>=-0.002"),
        ("ndcg@10>0", "no gate"),
        ("ndgc@10>=0", "no metric 'ndgc@10'.*'ndcg'"),
        ("ndcg@ten>=0", "cut at no rank"),
        ("micro_f1@5>=0", "has no cut"),
        ("ndcg(rel=2)>=0", "has no relevant grades"),
    ],
)
def test_what_is_no_gate_is_refused(text, message):
    with pytest.raises(UserError, match=f"(?s){message}"):
        Gate.read(text)


def test_a_gate_fails_where_that_is_shown_holds_where_that_is_shown_and_is_open_in_between():
    drawn, gate = np.linspace(-0.1, 0.1, 1001), Gate.read("ndcg@10 >= -0.05")
    assert gate.p(-0.3, drawn - 0.3) == 1 / 1002
    assert gate.holds(drawn + 0.2)
    assert not gate.holds(drawn)
    assert gate.p(-0.05, drawn - 0.05) == pytest.approx(0.5, abs=0.01)
    low_is_good = Gate.read("log_loss<=0.01")
    assert low_is_good.p(0.3, drawn + 0.3) == 1 / 1002
    assert low_is_good.holds(drawn - 0.2)


def part(gaps, name="all", draws=2000):
    """Make a part of which each query has a gap in nDCG."""
    drawn = np.random.default_rng(len(gaps)).choice(gaps, size=(draws, len(gaps))).mean(axis=1)
    mean = np.array([np.mean(gaps)])
    return Part(name, [nDCG()], 10 * len(gaps), len(gaps), mean, np.zeros(1), drawn[:, None])


def verdicts(parts, *gates, **options):
    return [each["verdict"] for each in judge_gates(parts, [Gate.read(gate) for gate in gates], **options)]


def test_few_queries_leave_a_gate_open_though_all_are_on_one_side():
    for sign, verdict in ((-1, "fails"), (1, "holds")):
        found = [verdicts([part(sign * np.linspace(0.1, 0.5, queries))], "ndcg>=0")[0] for queries in (2, 5, 6, 20)]
        assert found == ["open", "open", verdict, verdict]
        two_gates = verdicts([part(sign * np.linspace(0.1, 0.5, 6))], "ndcg>=0", "ndcg>=-0.001")
        assert two_gates == ["open", "open"]
    assert part(np.array([0.1, 0.2, 0.3])).figures()["ndcg"]["p"] == 2 * 0.5**3


def test_many_segments_do_not_hide_an_overall_loss():
    rng = np.random.default_rng(0)
    loss = rng.normal(0, 1, 100)
    loss -= loss.mean() + 0.28
    segments = [part(rng.normal(0.1, 1, 100), f"shop: {number}") for number in range(60)]
    gate = Gate.read("ndcg>=0")
    alone = judge_gates([part(loss)], [gate])[0]
    found = judge_gates([part(loss), *segments], [gate])
    assert alone["verdict"] == found[0]["verdict"] == "fails"
    assert found[0]["p"] == pytest.approx(4 * alone["p"])
    assert 61 * alone["p"] > 0.025, "or it would not have been hidden"
    worst = min(gate.p(*each.gap(nDCG())) for each in segments)
    assert min(each["p"] for each in found[1:]) == pytest.approx(min(1, 60 * worst / 0.75))


def test_p_values_are_corrected_by_holm():
    assert holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]).tolist() == [1, 1]
    assert len(holm([])) == 0


def test_a_ranking_is_matched_by_folded_query_and_what_is_not_judged_is_counted(data, tmp_path):
    dataset = Dataset.open(data)
    rows = judged_rows(dataset)
    path = ranking(dataset, rows, noisy(dataset, rows, 0), tmp_path / "shop.csv", ["unknown;1;1"])
    system = read_system(path, dataset, rows)
    assert system.is_ranking
    assert system.unjudged == 1
    assert system.has_E.sum() == sum(min(5, count) for count in np.bincount(dataset.query_row[rows]) if count)


def test_a_run_file_is_matched_by_query_id_or_by_topics(data, tmp_path):
    dataset = Dataset.open(data)
    rows = judged_rows(dataset)
    columns = [dataset.column(name)[rows].tolist() for name in (schema.QUERY_ID, schema.PRODUCT_ID, schema.QUERY)]
    lines = [
        f"{qid} Q0 {product} {place} {9 - place} us"
        for place, (qid, product, _) in enumerate(zip(*columns, strict=True))
    ]
    (tmp_path / "a.run").write_text("\n".join(lines) + "\n")
    by_id = read_system(tmp_path / "a.run", dataset, rows)
    np.testing.assert_array_equal(by_id.score_E[rows], 9 - np.arange(len(rows)))
    topics = dict.fromkeys(f"{qid}\t{query}\n" for qid, _, query in zip(*columns, strict=True))
    (tmp_path / "topics.tsv").write_text("".join(topics))
    by_text = read_system(tmp_path / "a.run", dataset, rows, topics=tmp_path / "topics.tsv")
    np.testing.assert_array_equal(by_text.score_E, by_id.score_E)


@pytest.fixture(scope="module")
def one_text(tmp_path_factory):
    """A dataset of one query in two locales, in one of them in three spellings."""
    folder = tmp_path_factory.mktemp("one_text")
    judged = ["Red shoe,1,us,E", "red shoe,2,us,I", "RED shoe,3,us,I", "red shoe,1,es,I", "red shoe,2,es,E"]
    shown = [f"{product},shoe {product},{locale}" for locale in ("us", "es") for product in (1, 2, 3)]
    (folder / "judged.csv").write_text("\n".join(["query,product_id,locale,label", *judged]) + "\n")
    (folder / "products.csv").write_text("\n".join(["product_id,title,locale", *shown]) + "\n")
    tables = {"examples": folder / "judged.csv", "products": folder / "products.csv"}
    prepare(None, folder / "data", **tables, test_share=0)
    return Dataset.open(folder / "data")


def test_a_query_is_one_in_any_spelling_and_another_in_another_locale(one_text, tmp_path, monkeypatch):
    rows = judged_rows(one_text)
    systems = []
    for name, sign in (("right", 1), ("wrong", -1)):
        shown = [
            f"red shoe,{row[schema.PRODUCT_ID]},{row[schema.LOCALE]},{sign * (row[schema.LABEL] == 'E')}"
            for row in one_text.examples.to_pylist()
        ]
        (tmp_path / f"{name}.csv").write_text("\n".join(["query,product_id,locale,score", *shown]) + "\n")
        systems.append(read_system(tmp_path / f"{name}.csv", one_text, rows))
    assert common_rows(*systems, one_text, rows).tolist() == rows.tolist()
    right, wrong = (system.judged(one_text, rows) for system in systems)
    assert sorted(np.bincount(right.query_index).tolist()) == [2, 3]
    moved = moved_most(one_text, rows, nDCG(), right, wrong)
    assert sorted((each.query.lower(), each.locale) for each in moved) == [("red shoe", "es"), ("red shoe", "us")]
    monkeypatch.setattr("zhichun.measure.systems.LEAST_QUERIES", 2)
    assert not any(name.startswith("locale: ") for name in segments_of(one_text, rows))


def test_a_pair_of_two_locales_is_refused_where_the_table_has_none(one_text, tmp_path):
    (tmp_path / "shop.csv").write_text("query,product_id,score,market\nred shoe,3,1,us\nred shoe,1,1,us\n")
    with pytest.raises(UserError, match=r"(?s)row 2: .* several locales.*--columns locale=NAME"):
        read_system(tmp_path / "shop.csv", one_text, judged_rows(one_text))
    system = read_system(tmp_path / "shop.csv", one_text, judged_rows(one_text), columns={"locale": "market"})
    assert system.has_E.sum() == 2


def test_ids_that_trec_files_cannot_hold_cost_these_files_alone(tmp_path):
    (tmp_path / "judged.csv").write_text(
        "query,product_id,label\n" + "".join(f"shoe {number},a b,E\nshoe {number},c,I\n" for number in range(4))
    )
    (tmp_path / "products.csv").write_text("product_id,title\na b,shoe\nc,mug\n")
    (tmp_path / "shop.csv").write_text(
        "query,product_id,score\n" + "".join(f"shoe {number},a b,1\nshoe {number},c,0\n" for number in range(4))
    )
    tables = {"examples": tmp_path / "judged.csv", "products": tmp_path / "products.csv"}
    prepare(None, tmp_path / "data", **tables, test_share=0)
    shop, out = tmp_path / "shop.csv", tmp_path / "out"
    found = compare(shop, shop, tmp_path / "data", gates=["ndcg>=0"], split="all", out=out, draws=100)
    assert {path.name for path in out.iterdir()} == {"compare.json", "index.html", "junit.xml"}
    notes = json.loads((out / "compare.json").read_text())["notes"]
    assert notes == found["notes"]
    assert notes[0] == "4 queries are too few to judge a gate: it takes 6 at least"
    assert "cannot hold the id 'a b'" in notes[1]
    assert "cannot hold the id" in (out / "index.html").read_text()


def test_a_model_is_compared_on_what_a_ranking_returned_and_two_rankings_on_all(data, tmp_path):
    dataset = Dataset.open(data)
    rows = judged_rows(dataset)
    model = read_system(scored(dataset, rows, 0, tmp_path / "scored.parquet"), dataset, rows)
    shop = read_system(ranking(dataset, rows, noisy(dataset, rows, 1), tmp_path / "shop.csv"), dataset, rows)
    assert not model.is_ranking
    assert common_rows(model, shop, dataset, rows).tolist() == np.flatnonzero(shop.has_E).tolist()
    assert common_rows(shop, shop, dataset, rows).tolist() == rows.tolist()


def test_a_run_is_scored_as_evaluate_scores_it(tiny_run, tiny_dataset, tmp_path):
    measured = evaluate(tiny_run, tiny_dataset, out=tmp_path, shown=False)
    found = compare(tiny_run, tmp_path / "scored.parquet", tiny_dataset, draws=100, shown=False)
    figures = found["parts"]["all"]["figures"]
    for name in ("ndcg", "micro_f1", "log_loss"):
        assert figures[name]["a"] == pytest.approx(measured[name], abs=1e-6)
        assert figures[name]["difference"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("query,product_id,score\nshoe,1,high\n", "score = 'high' is no number"),
        ("query,product_id,p_E,p_S,p_C,p_I\nshoe,1,70,10,10,10\n", "row 1: p_E = 70, .* cannot be"),
        ("query,product_id,p_E,p_S,p_C,p_I\nshoe,1,1.2,-0.2,0,0\n", "row 1: p_E = 1.2, .* cannot be"),
        ("query,product_id\nshoe,1\n", "nothing to rank by"),
        ("query,product_id,score\nshoe,1,1\n", "none of the judged pairs"),
    ],
)
def test_a_table_that_ranks_nothing_is_refused(data, tmp_path, table, message):
    dataset = Dataset.open(data)
    (tmp_path / "shop.csv").write_text(table)
    with pytest.raises(UserError, match=message):
        read_system(tmp_path / "shop.csv", dataset, judged_rows(dataset))


def test_a_model_whose_scores_are_no_numbers_is_refused(tiny_run, tiny_dataset, monkeypatch):
    dataset = Dataset.open(tiny_dataset)
    rows = judged_rows(dataset)
    broken = TASKS["esci"].predict(np.full((len(rows), 4), np.nan, np.float32))
    monkeypatch.setattr("zhichun.measure.systems.score_rows", lambda *_: (broken, "torch", {}))
    with pytest.raises(UserError, match="not finite numbers"):
        read_system(tiny_run, dataset, rows, shown=False)


def test_a_pair_that_is_ranked_twice_is_refused_with_its_row(data, tmp_path):
    dataset = Dataset.open(data)
    row = dataset.examples.slice(int(judged_rows(dataset)[0]), 1).to_pylist()[0]
    line = f'"{row[schema.QUERY]}",{row[schema.PRODUCT_ID]},1\n'
    (tmp_path / "shop.csv").write_text(f"query,product_id,score\n{line}{line}")
    with pytest.raises(UserError, match="row 2: names a pair a second time"):
        read_system(tmp_path / "shop.csv", dataset, judged_rows(dataset))


def test_segments_are_those_with_enough_queries_and_the_users_own(data, tmp_path):
    dataset = Dataset.open(data)
    rows = judged_rows(dataset)
    queries = dict.fromkeys(dataset.column(schema.QUERY)[rows].tolist())
    lines = [f'"{query}",{"head" if place % 2 else "tail"}' for place, query in enumerate(queries)]
    (tmp_path / "own.csv").write_text("query,traffic\n" + "\n".join(lines) + "\n")
    found = segments_of(dataset, rows, tmp_path / "own.csv")
    assert {f"locale: {locale}" for locale in LOCALES} <= set(found)
    assert {"traffic: head", "traffic: tail", "brand: named in the query", "query: 2 words"} <= set(found)
    head, tail = found["traffic: head"], found["traffic: tail"]
    assert (head ^ tail).all()
    assert all(len(np.unique(dataset.query_row[rows[mask]])) >= 20 for mask in found.values())
    (tmp_path / "own.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="holds no segments"):
        segments_of(dataset, rows, tmp_path / "own.csv")


def test_own_segments_may_have_blanks_and_names_that_are_taken_and_what_is_left_out_is_said(data, tmp_path):
    dataset = Dataset.open(data)
    rows = judged_rows(dataset)
    queries = dict.fromkeys(dataset.column(schema.QUERY)[rows].tolist())
    lines = [
        f'"{query}",{"yes" if place % 2 else ""},{"left" if place % 3 else "right"},{place},same'
        for place, query in enumerate(queries)
    ]
    (tmp_path / "own.csv").write_text("query,promoted,brand,price,one\n" + "\n".join(lines) + "\n")
    said = []
    found = segments_of(dataset, rows, tmp_path / "own.csv", said.append)
    assert {"promoted: yes", "own brand: left", "own brand: right", "brand: not named"} <= set(found)
    assert not any(name.startswith(("price", "one")) for name in found)
    of_kind = {line.split(":")[0].removeprefix("segments of "): line for line in said}
    assert set(of_kind) == {"promoted", "price", "one"}
    blank = np.isin(dataset.column(schema.QUERY)[rows], list(queries)[::2]).sum()
    assert f"1 of 1 values (the 20 commonest with 20 queries or more); {blank:,} pairs" in of_kind["promoted"]
    assert f"0 of {len(queries):,} values" in of_kind["price"]


def named(dataset, rows, seed, scale_of_a):
    """Compare two systems of the same noise but for A's, and return the parts in which the gate fails."""
    scores = [noisy(dataset, rows, 2 * seed + side, scale) for side, scale in enumerate((scale_of_a, 0.5))]
    a, b = (Judged(dataset.query_row[rows].astype(np.int64), dataset.labels[rows], scores=each) for each in scores)
    parts = measure_parts([nDCG() @ 10], a, b, segments_of(dataset, rows), draws=1000, seed=seed)
    return {each["part"] for each in judge_gates(parts, [Gate.read("ndcg@10>=0")]) if each["verdict"] == "fails"}


def test_a_regression_of_one_segment_is_named_and_none_is_seen_where_there_is_none(data):
    # benchmarks/compare_gates.py does 1,000 of these.
    dataset = Dataset.open(data)
    rows = judged_rows(dataset)
    hurt = np.where(dataset.column(schema.LOCALE)[rows] == "es", 3.0, 0.5)
    assert sum(bool(named(dataset, rows, seed, np.full(len(rows), 0.5))) for seed in range(20)) <= 3
    found = [named(dataset, rows, seed, hurt) for seed in range(5)]
    assert all("locale: es" in each for each in found)
    assert not any("locale: us" in each for each in found)


def test_the_command_fails_on_a_planted_regression_and_writes_page_figures_and_junit(data, tmp_path, capsys):
    dataset = Dataset.open(data)
    rows = judged_rows(dataset)
    good = scored(dataset, rows, 0, tmp_path / "good.parquet", sharp=6.0)
    bad = scored(dataset, rows, 1, tmp_path / "bad.parquet", sharp=0.5)
    call = ["compare", str(bad), str(good), "--data", str(data), "--split", "all", "--gate", "nDCG@10>=-0.01"]
    with pytest.raises(SystemExit) as ended:
        main([*call, "--gate", "log_loss<=0.1", "--out", str(tmp_path / "out"), "--draws", "200"])
    assert ended.value.code == 1
    assert "fails: ndcg@10>=-0.01, all" in capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "compare.json").read_text())
    figures = found["parts"]["all"]["figures"]["ndcg@10"]
    assert figures["difference"] == pytest.approx(figures["a"] - figures["b"])
    assert figures["low"] < figures["difference"] < figures["high"] < 0
    assert found["parts"]["locale: es"]["figures"]["micro_f1"]["p_holm"] <= 1
    page = (tmp_path / "out" / "index.html").read_text()
    for text in ("Lost: A ranks worse", "FAILS", "locale: es", "smallest shown"):
        assert text in page
    trec = pytest.importorskip("pytrec_eval")
    qrels = trec.parse_qrel((tmp_path / "out" / "judged.qrels").read_text().splitlines())
    for name in ("a", "b"):
        run = trec.parse_run((tmp_path / "out" / f"{name}.run").read_text().splitlines())
        theirs = trec.RelevanceEvaluator(qrels, {"P_5"}, relevance_level=3).evaluate(run)
        ours = found["parts"]["all"]["figures"]["precision@5"][name]
        assert np.mean([each["P_5"] for each in theirs.values()]) == pytest.approx(ours)
    suite = ElementTree.parse(tmp_path / "out" / "junit.xml").getroot()
    assert int(suite.get("failures")) == sum(gate["verdict"] == "fails" for gate in found["gates"]) > 1
    with pytest.raises(SystemExit) as ended:
        main(["compare", str(good), str(bad), *call[3:7], "--gate", "nDCG@10>=-0.01", "--draws", "200", "--strict"])
    assert ended.value.code in (0, None)


def test_what_is_not_shown_fails_only_where_that_is_asked_for(data, tmp_path):
    dataset = Dataset.open(data)
    rows = judged_rows(dataset)
    one, other = (scored(dataset, rows, seed, tmp_path / f"{seed}.parquet") for seed in (0, 1))
    call = [
        "compare",
        str(one),
        str(other),
        "--data",
        str(data),
        "--split",
        "all",
        "--gate",
        "ndcg>=0",
        "--draws",
        "200",
    ]
    for strict, code, failures in (([], (0, None), 0), (["--strict"], (1,), 1)):
        with pytest.raises(SystemExit) as ended:
            main([*call, *strict, "--out", str(tmp_path / "out"), "--overwrite"])
        assert ended.value.code in code
        suite = ElementTree.parse(tmp_path / "out" / "junit.xml").getroot()
        assert [case.get("name") for case in suite.iter("testcase") if case.find("failure") is not None] == (
            ["all"] * failures
        )
        assert int(suite.get("failures")) == failures


def test_a_ranking_has_no_classes_to_be_gated_by(data, tmp_path):
    dataset = Dataset.open(data)
    rows = judged_rows(dataset)
    shop = ranking(dataset, rows, noisy(dataset, rows, 1), tmp_path / "shop.csv")
    with pytest.raises(UserError, match="micro_f1>=0 needs probabilities"):
        compare(shop, shop, data, gates=["micro_f1>=0"], split="all")
    found = compare(shop, shop, data, split="all", draws=100)
    assert "micro_f1" not in found["parts"]["all"]["figures"]
    assert found["parts"]["all"]["figures"]["ndcg"]["difference"] == 0


def test_where_every_query_has_one_product_labels_alone_are_compared(data, tmp_path):
    dataset = Dataset.open(data)
    rows = judged_rows(dataset)
    rows = rows[np.unique(dataset.column(schema.QUERY_ID)[rows], return_index=True)[1]]
    one, other = (scored(dataset, rows, seed, tmp_path / f"{seed}.parquet") for seed in (0, 1))
    call = {"split": "all", "draws": 100}
    found = compare(one, other, data, gates=["micro_f1>=-0.5"], out=tmp_path / "out", **call)
    assert found["shown"] == "micro_f1"
    assert not {"ndcg", "ndcg@10", "mrr"} & {*found["parts"]["all"]["figures"]}
    assert any("every query has one product" in note for note in found["notes"])
    assert "Segments, by micro-F1" in (tmp_path / "out" / "index.html").read_text()
    shop = ranking(dataset, rows, noisy(dataset, rows, 1), tmp_path / "shop.csv")
    for a, b, gates in ((one, other, ["ndcg>=-1"]), (shop, one, [])):
        with pytest.raises(UserError, match="every query has one product"):
            compare(a, b, data, gates=gates, **call)

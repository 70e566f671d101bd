"""A model with a list head by every way to score: a query's products are one list, whoever scores them and how."""

import json
import urllib.request
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.data.dataset import Dataset
from zhichun.data.prepare.prepare import prepare
from zhichun.measure.evaluate import evaluate
from zhichun.score.job import ScoringJob
from zhichun.score.rank import rank
from zhichun.score.scorer import Scorer, load_scorer
from zhichun.score.torch_engine import to_tensors
from zhichun.text.pairs import PairTexts

QUERIES, NEAR = 5, 1e-5
DOCUMENTS = ["Blue hat", "Red running shoes", "Laces for shoes", "Green trail running shoes, size 9"]


@pytest.fixture(scope="module")
def texts(tiny_dataset):
    """The products of a few queries with their texts, query after query."""
    examples = pq.read_table(tiny_dataset / schema.EXAMPLES_FILE)
    first = examples[schema.QUERY].unique().to_pylist()[:QUERIES]
    examples = examples.filter(pa.compute.is_in(examples[schema.QUERY], value_set=pa.array(first)))
    examples = examples.sort_by([(schema.QUERY, "ascending"), (schema.LOCALE, "ascending")])
    products = pq.read_table(tiny_dataset / schema.PRODUCTS_FILE).to_pylist()
    by_id = {(product[schema.PRODUCT_ID], product[schema.LOCALE]): product for product in products}
    locales = examples[schema.LOCALE].to_pylist()
    chosen = [by_id[key] for key in zip(examples[schema.PRODUCT_ID].to_pylist(), locales, strict=True)]
    columns = {name: [product[name] for product in chosen] for name in schema.TEXT_COLUMNS}
    return examples[schema.QUERY].to_pylist(), columns, locales


@pytest.fixture(scope="module")
def expected(list_run, texts):
    """Scores of the network itself, all lists in one batch."""
    scorer = Scorer.load(list_run, device="cpu")
    pairs = scorer.read(PairTexts(*texts))
    batch = {**pairs.collate(np.arange(len(pairs))), "list": np.unique(pairs.lists, return_inverse=True)[1]}
    with torch.inference_mode():
        logits_PC = scorer.engine.model(to_tensors(batch, torch.device("cpu"))).numpy()
        alone_PC = scorer.engine.model(to_tensors(pairs.collate(np.arange(len(pairs))), torch.device("cpu"))).numpy()
    assert np.abs(logits_PC - alone_PC).max() > 0.05, "the list says something, or nothing would be seen"
    return scorer.task.predict(logits_PC).score


@pytest.fixture(scope="module")
def export_of_lists(list_run, once):
    for library in ("onnxruntime", "onnxscript", "openvino"):
        pytest.importorskip(library)
    from zhichun.score.export.export_run import export

    formats = ["onnx", "onnx-int8", "openvino"]
    return once("lists", lambda folder: export(list_run, formats, out=folder / "export", shown=False)) / "export"


@pytest.fixture(scope="module")
def server_of_lists(list_run, serving):
    from zhichun.serve.app import ServeSettings

    with serving(ServeSettings(run=list_run)) as url:
        yield url


def by_torch(request, texts):
    scorer = Scorer.load(request.getfixturevalue("list_run"), device="cpu")
    return scorer.predict(scorer.read(PairTexts(*texts))).score


def by_export(engine, request, texts):
    scorer = Scorer.load(request.getfixturevalue("export_of_lists"), engine=engine)
    return scorer.predict(scorer.read(PairTexts(*texts))).score


def by_file(rows, request, texts):
    folder = request.getfixturevalue("tmp_path")
    queries, columns, locales = texts
    pq.write_table(pa.table({schema.QUERY: queries, schema.LOCALE: locales, **columns}), folder / "pairs.parquet")
    scorer = Scorer.load(request.getfixturevalue("list_run"), device="cpu")
    out = folder / "out.parquet"
    ScoringJob(scorer, folder / "pairs.parquet", out, "this one", chunk_rows=rows).run()
    return pq.read_table(out)["gain"].to_numpy()


def post(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.headers, json.loads(answer.read())


def by_server(request, texts):
    queries, columns, locales = texts
    rows = zip(locales, *columns.values(), strict=True)
    names = ["locale", *columns]
    documents = [{name: text for name, text in zip(names, row, strict=True) if text is not None} for row in rows]
    server = request.getfixturevalue("server_of_lists")
    headers, said = post(f"{server}/score", {"queries": queries, "documents": documents})
    assert "depends on the other documents of the request" in headers["X-Warning"]
    return [each["score"] for each in said["data"]]


WAYS = {
    "torch": (by_torch, NEAR),
    "onnx": (partial(by_export, "onnx"), NEAR),
    "openvino": (partial(by_export, "openvino"), NEAR),
    "openvino-bf16": (partial(by_export, "openvino-bf16"), 5e-3),
    "onnx-int8": (partial(by_export, "onnx-int8"), 2e-2),
    "a file in one chunk": (partial(by_file, 10_000), NEAR),
    "a file in small chunks": (partial(by_file, 7), NEAR),
    "the server": (by_server, NEAR),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_reads_whole_lists(way, request, texts, expected):
    score, tolerance = WAYS[way]
    if way == "the server":
        pytest.importorskip("fastapi")
    assert np.abs(np.asarray(score(request, texts)) - expected).max() < tolerance


def test_an_evaluation_reads_the_rows_of_each_query(list_run, tiny_dataset, tmp_path):
    dataset, scorer = Dataset.open(tiny_dataset), Scorer.load(list_run, device="cpu")
    evaluate(list_run, tiny_dataset, out=tmp_path, shown=False)
    scored = pq.read_table(tmp_path / "scored.parquet")
    query_id = scored[schema.QUERY_ID][0].as_py()
    mine = scored.filter(pa.compute.equal(scored[schema.QUERY_ID], query_id))
    rows = np.flatnonzero(np.isin(dataset.column(schema.EXAMPLE_ID), mine[schema.EXAMPLE_ID].to_numpy()))
    products = pq.read_table(tiny_dataset / schema.PRODUCTS_FILE).take(dataset.product_row[rows])
    columns = {name: products[name].to_pylist() for name in schema.TEXT_COLUMNS}
    locales, queries = products[schema.LOCALE].to_pylist(), mine[schema.QUERY].to_pylist()
    assert len(rows) > 1
    found = scorer.predict(scorer.read(PairTexts(queries, columns, locales))).score
    assert found == pytest.approx(mine["gain"].to_numpy(), abs=NEAR)


def test_products_that_are_read_alike_are_one_candidate_by_every_way(list_run, tmp_path):
    titles = [*DOCUMENTS, DOCUMENTS[1], DOCUMENTS[1].replace(" ", "  ")]
    pairs = "\n".join(f"red shoes,{place},E" for place in range(len(titles)))
    products = "\n".join(f'{place},"{title}"' for place, title in enumerate(titles))
    tables = {"examples": tmp_path / "pairs.csv", "products": tmp_path / "products.csv"}
    tables["examples"].write_text(f"query,product_id,grade\n{pairs}")
    tables["products"].write_text(f"product_id,title\n{products}")
    prepare(None, tmp_path / "data", **tables, test_share=0)
    scorer = Scorer.load(list_run, device="cpu")
    expected = scorer.score("red shoes", DOCUMENTS).score
    expected = [*expected, expected[1], expected[1]]
    assert np.abs(scorer.score("red shoes", [*titles, "Red lamp"]).score[:-2] - expected[:-1]).max() > NEAR
    evaluate(list_run, tmp_path / "data", split="all", out=tmp_path, shown=False)
    scored = pq.read_table(tmp_path / "scored.parquet").sort_by(schema.PRODUCT_ID)
    options = {"catalogue": tables["products"], "prefix": "new_"}
    ScoringJob(scorer, tables["examples"], tmp_path / "out.parquet", "this one", **options).run()
    ranked = rank(scorer, "red shoes", [{"id": place, "title": title} for place, title in enumerate(titles)])
    for found in (
        scorer.score("red shoes", titles).score,
        scored["gain"].to_numpy(),
        pq.read_table(tmp_path / "out.parquet")["new_gain"].to_numpy(),
        [each.score for each in sorted(ranked, key=lambda each: each.product_id)],
    ):
        assert found == pytest.approx(expected, abs=NEAR)


def test_the_order_of_the_products_changes_nothing(list_run):
    scorer = load_scorer(list_run, device="cpu")
    forward, backward = (
        scorer.score("red running shoes", documents).score for documents in (DOCUMENTS, DOCUMENTS[::-1])
    )
    assert backward[::-1] == pytest.approx(forward, abs=1e-6)
    ranked = rank(scorer, "red running shoes", [{"id": text, "title": text} for text in DOCUMENTS])
    assert {each.title: each.score for each in ranked} == pytest.approx(dict(zip(DOCUMENTS, forward, strict=True)))


def test_the_server_s_cache_and_rounds_keep_lists_apart(list_run, server_of_lists):
    scorer = load_scorer(list_run, device="cpu")
    for documents in (DOCUMENTS, DOCUMENTS[:2], DOCUMENTS[1:], DOCUMENTS[:2], DOCUMENTS[:1]):
        expected = scorer.score("red running shoes", documents).score
        headers, said = post(f"{server_of_lists}/v1/rerank", {"query": "red running shoes", "documents": documents})
        found = {each["index"]: each["relevance_score"] for each in said["results"]}
        assert [found[place] for place in range(len(documents))] == pytest.approx(expected, abs=NEAR)
        assert "depends on the other documents of the request" in headers["X-Warning"]


def test_a_file_whose_queries_are_not_together_is_refused(list_run, tmp_path):
    table = pa.table({"query": ["a", "a", "b", "a"], "title": DOCUMENTS})
    pq.write_table(table, tmp_path / "pairs.parquet")
    scorer = Scorer.load(list_run, device="cpu")
    for rows in (2, 100):
        job = ScoringJob(scorer, tmp_path / "pairs.parquet", tmp_path / "out.csv", "this one", chunk_rows=rows)
        with pytest.raises(
            UserError, match=r"row 4: the rows of the query 'a' are not together.*\nSort the file by query"
        ):
            job.run()
    pq.write_table(table.slice(0, 0), tmp_path / "pairs.parquet")
    assert ScoringJob(scorer, tmp_path / "pairs.parquet", tmp_path / "out.csv", "this one").run() == 0


def test_spellings_of_a_query_are_one_list_and_rows_without_one_part_none(list_run, tmp_path):
    spelled = ["Red  shoes", "red shoes", "", "RED SHOES", "red shoes", " "]
    table = pa.table({"query": spelled, "title": [*DOCUMENTS, "Red lamp", "Red lamp"]})
    pq.write_table(table, tmp_path / "pairs.parquet")
    pq.write_table(table.take([0, 1, 2, 4, 5]), tmp_path / "fewer.parquet")
    scorer = Scorer.load(list_run, device="cpu")

    def scores(name, out, **options):
        job = ScoringJob(scorer, tmp_path / f"{name}.parquet", tmp_path / out, "this one", **options)
        totals, _ = job.run_shard()
        found = pa.concat_tables(map(pq.read_table, sorted((tmp_path / out).glob("part-*"))))
        return totals, found["gain"].to_numpy()

    totals, expected = scores("pairs", "out1", chunk_rows=1)
    assert (totals.rows, totals.failed) == (4, 2)
    for rows in (2, 100):
        assert scores("pairs", f"out{rows}", chunk_rows=rows)[1] == pytest.approx(expected, abs=1e-6)
    anew, since = (scores("fewer", out, **of)[1] for out, of in (("anew", {}), ("since", {"since": tmp_path / "out1"})))
    assert since == pytest.approx(anew, abs=1e-6)
    assert abs(anew[1] - expected[1]) > NEAR, "the list says something"

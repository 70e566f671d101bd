"""Every report, table and filter with zero rows: it works, or says what is empty and what to do."""

import io
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from scoring_stub import Stub, read, score, write

from zhichun.cli import tables
from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.files import read_json, write_json
from zhichun.core.tasks import TASKS
from zhichun.data.dataset import Dataset
from zhichun.data.predictions import read_predictions
from zhichun.data.prepare.clean_catalogue import read_catalogue
from zhichun.data.prepare.prepare import prepare
from zhichun.data.prepare.summary import SUMMARY_FILE, summarise
from zhichun.data.readers.pair_tables import append_columns
from zhichun.fit.recipe import PretrainingRecipe, load_recipe
from zhichun.judgements import findings
from zhichun.judgements.audit import audit
from zhichun.measure.dataset_page import write_summary_page
from zhichun.measure.evaluate import evaluate
from zhichun.measure.run_page import write_report
from zhichun.metrics.figures import measure
from zhichun.score.ensemble_weights import HeldOutByAll
from zhichun.score.rank import rank

NOTHING = np.zeros(0, np.int64)
CONSOLE = Console(file=io.StringIO(), width=100)
PRODUCTS = "product_id,title,product_locale\n1,Red shoe,us\n2,Blue hat,us\n"
EXAMPLES = "query,product_id,label\nred shoe,1,E\n"


def header(table):
    return table.splitlines(keepends=True)[0]


def predicted(task, pairs=0):
    return TASKS[task].predict(np.zeros((pairs, TASKS[task].outputs), np.float32))


def changed(dataset, folder, column=None, value=None, keep=None):
    """A copy of a dataset folder with one value in a whole column, or with the pairs of one split alone."""
    shutil.copytree(dataset, folder)
    examples = pq.read_table(folder / schema.EXAMPLES_FILE)
    if column is not None:
        values = pa.array([value] * len(examples)).cast(examples.schema.field(column).type)
        examples = examples.set_column(examples.column_names.index(column), column, values)
    if keep is not None:
        examples = examples.filter(pc.equal(examples[schema.SPLIT], keep))
    pq.write_table(examples, folder / schema.EXAMPLES_FILE)
    return folder


# Reports


def run_of(folder, task, records="", measured=None):
    """A run folder without scored pairs."""
    folder.mkdir()
    write_json(folder / "recipe.json", {**load_recipe("tiny").to_json(), "task": task})
    (folder / "metrics.jsonl").write_text(records)
    names = (schema.QUERY, schema.PRODUCT_ID, schema.LOCALE, schema.LABEL)
    pairs = pa.table({name: pa.array([], pa.string()) for name in names})
    pq.write_table(append_columns(pairs, predicted(task)), folder / "scored.parquet")
    if measured:
        write_json(folder / "metrics.json", {"split": "test", "task": task, "gains": schema.GAINS, **measured})
    return folder


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    "records",
    [
        "",
        '{"step": 4, "validation": {"loss": 1.0}}\n',
        '{"step": 4, "loss": 1.0}\n{"step": 4, "validation": {}}\n',
        '{"step": 4, "loss": null}\n',
        '{"step": 4, "loss": NaN, "gradient_norm": NaN}\n{"step": 5, "loss": null}\n',
        '{"step": 4, "lo',
    ],
    ids=["no step", "no loss", "no figure", "null", "not finite", "cut off"],
)
def test_the_page_of_a_run_without_scored_pairs_or_steps(task, records, tmp_path):
    page = write_report(run_of(tmp_path / "run", task, records)).read_text("utf-8")
    assert "Not evaluated yet" in page
    assert "nan" not in page.lower()


@pytest.mark.parametrize("task", TASKS)
def test_the_page_of_a_run_whose_locales_and_scored_pairs_are_none(task, tmp_path):
    of_one = measure(predicted(task, 1), np.zeros(1, np.int64), np.zeros(1, np.int64))
    run = run_of(tmp_path / "run", task, measured={**of_one, "by_locale": {}})
    assert "Measured on 1 pairs" in write_report(run).read_text("utf-8")


@pytest.mark.parametrize("records", ["", '{"step": 4, "loss": null}\n'])
def test_the_page_of_a_pre_training_without_steps(records, tmp_path):
    write_json(tmp_path / "recipe.json", PretrainingRecipe().to_json())
    (tmp_path / "metrics.jsonl").write_text(records)
    assert "Pre-training with" in write_report(tmp_path).read_text("utf-8")


def test_the_page_of_a_dataset_without_judgements(tiny_dataset, tmp_path):
    empty = changed(tiny_dataset, tmp_path / "data", keep="none")
    write_json(empty / SUMMARY_FILE, summarise(empty))
    assert not read_json(empty / SUMMARY_FILE)["pairs"]
    assert "Summary of the data" in write_summary_page(empty).read_text("utf-8")


def test_an_audit_that_finds_nothing_in_doubt_and_takes_no_decision(audited_data, fold_runs, tmp_path, monkeypatch):
    find = findings.find_label_issues

    def nothing(*given):
        return replace(find(*given), places_I=NOTHING)

    monkeypatch.setattr(findings, "find_label_issues", nothing)
    (tmp_path / "decided.csv").write_text("example_id,decision\n")
    summary = audit(audited_data.folder, tmp_path / "audit", runs=fold_runs, drop=0.1, accept=tmp_path / "decided.csv")
    assert (summary["issues"], summary["drop"]["listed"]) == (0, 0)
    assert not len(pq.read_table(tmp_path / "audit" / "issues.parquet"))
    assert '"rows":[]' in (tmp_path / "audit" / "index.html").read_text("utf-8")
    again = audit(audited_data.folder, tmp_path / "audit", runs=fold_runs, accept=tmp_path / "audit" / "to_judge.csv")
    assert again["issues"] == 0


# Tables on the terminal


@pytest.mark.parametrize(
    "make",
    [
        lambda: tables.figures_table({"split": "test", "pairs": 0, "queries": 0, "by_locale": {}}),
        lambda: tables.confusion_table({"confusion": [[0] * 4] * 4}, schema.LABELS),
        lambda: tables.confusion_table({"confusion": []}, ()),
        lambda: tables.ranking_table("red", [], schema.LABELS, judged={}),
        lambda: tables.settings_table([]),
        lambda: tables.checks_table({}),
    ],
    ids=["figures", "confusion", "no class", "ranking", "settings", "checks"],
)
def test_a_table_on_the_terminal_without_rows(make):
    CONSOLE.print(make())


# Files of pairs


@pytest.mark.parametrize("kind", [".csv", ".tsv", ".parquet"])
@pytest.mark.parametrize("out", [".csv", ".tsv", ".parquet"])
@pytest.mark.parametrize("of_catalogue", [False, True])
def test_a_file_of_pairs_without_rows_is_scored_to_one_without_rows(kind, out, of_catalogue, tmp_path):
    names = ["query", "product_id"] if of_catalogue else ["query", "title"]
    pairs = write(pa.table({name: pa.array([], pa.string()) for name in names}), tmp_path / f"pairs{kind}")
    (tmp_path / "products.csv").write_text(PRODUCTS)
    catalogue = tmp_path / "products.csv" if of_catalogue else None
    assert score(Stub(), pairs, tmp_path / f"out{out}", catalogue=catalogue) == 0
    assert read(tmp_path / f"out{out}") == [[*names, "p_E", "p_S", "p_C", "p_I", "label", "gain"]]


def test_the_result_without_rows_has_the_types_of_one_with_rows(tmp_path):
    pairs = pa.table({"query": ["red"], "title": ["shoe"], "id": [7], "seen": [1.5]})
    kinds = []
    for rows in (0, 1):
        pq.write_table(pairs.slice(0, rows), tmp_path / "pairs.parquet")
        score(Stub(), tmp_path / "pairs.parquet", tmp_path / "out.parquet")
        kinds.append({field.name: field.type for field in pq.read_schema(tmp_path / "out.parquet")})
    assert kinds[0] == kinds[1]


# What cannot go on with nothing


def prepare_tables(folder, examples, products, **options):
    (folder / "e.csv").write_text(examples)
    (folder / "p.csv").write_text(products)
    return prepare(None, folder / "out", examples=folder / "e.csv", products=folder / "p.csv", **options)


def catalogue_of(folder, text):
    (folder / "p.csv").write_text(text)
    return read_catalogue(folder / "p.csv")


MADE = pa.table({name: ["x"] for name in (*schema.PRODUCT_COLUMNS, schema.ORIGIN)})
UNJUDGED = "query,product_id,label\nred shoe,1,\n"
NO_SUCH = "query,product_id,label\nred shoe,9,E\n"
REFUSED = {
    "prepare, no judgement": (
        lambda to: prepare_tables(to, header(EXAMPLES), PRODUCTS),
        r"e\.csv: no judged pair is left \(the file holds none\)\nJudge some",
    ),
    "prepare, no product": (
        lambda to: prepare_tables(to, EXAMPLES, header(PRODUCTS)),
        r"p\.csv: holds no product\nName a table with rows",
    ),
    "prepare, neither": (
        lambda to: prepare_tables(to, header(EXAMPLES), header(PRODUCTS)),
        r"p\.csv: holds no product\nName a table with rows",
    ),
    "prepare, empty file": (
        lambda to: prepare_tables(to, "", PRODUCTS),
        r"e\.csv: the file is empty\nWrite it again",
    ),
    "prepare, nothing judged": (
        lambda to: prepare_tables(to, UNJUDGED, PRODUCTS),
        r"e\.csv: no judged pair is left \(1 × not judged\)\nJudge some",
    ),
    "prepare, all dropped": (
        lambda to: prepare_tables(to, NO_SUCH, PRODUCTS, on_bad_rows="drop"),
        r"e\.csv: no judged pair is left \(1 × no such product\)\n.*lists the refused rows",
    ),
    "rank, no product": (
        lambda _: rank(Stub(), "red", []),
        r"no product of the locale 'us'\.\n.*give at least one",
    ),
    "rank, products of steps alone": (
        lambda _: rank(Stub(), "red", MADE),
        r"no product of the locale 'us'\.\n.*give at least one",
    ),
    "catalogue, header alone": (
        lambda to: catalogue_of(to, header(PRODUCTS)),
        r"p\.csv: holds no product\nName a table with rows",
    ),
    "catalogue, empty file": (lambda to: catalogue_of(to, ""), r"p\.csv: the file is empty\nWrite it again"),
    "figures of no pair": (
        lambda _: measure(predicted("esci"), NOTHING, NOTHING, NOTHING.astype("U2")),
        r"no judged pairs to measure\.\nCheck the split",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_needs_a_row_says_what_is_empty_and_what_to_do(case, tmp_path):
    do, message = REFUSED[case]
    with pytest.raises(UserError, match=message):
        do(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} <= {"e.csv", "p.csv"}


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"keep": "none"}, {}, r"there is no split 'test'\.\nPossible: all"),
        ({"keep": "none"}, {"split": "all"}, r"no judged pairs to measure\.\nCheck the split"),
        ({"keep": "train"}, {"split": "test"}, r"there is no split 'test'\.\nPossible: all, train"),
        ({"column": schema.ORIGIN, "value": "balanced"}, {}, r"no judged pairs to measure\.\nCheck the split"),
        ({"column": schema.SMALL, "value": 0}, {"version": "small"}, r"no pair is of the small .*\nUse --version all"),
        ({"column": schema.LARGE, "value": 0}, {"version": "large"}, r"no pair is of the large .*\nUse --version all"),
    ],
)
def test_an_evaluation_of_no_pair_is_refused_and_leaves_nothing(
    change, options, message, tiny_dataset, tiny_run, tmp_path
):
    data = changed(tiny_dataset, tmp_path / "data", **change)
    with pytest.raises(UserError, match=message):
        evaluate(tiny_run, data, out=tmp_path / "out", shown=False, **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("fold", "keep"), [(None, "none"), (0, "none"), (0, "test")])
def test_a_dataset_without_training_pairs_is_no_training_set(fold, keep, tiny_dataset, tmp_path):
    dataset = Dataset.open(changed(tiny_dataset, tmp_path / "data", keep=keep))
    with pytest.raises(UserError, match=r"there is no pair to train on\.\nPrepare more queries"):
        dataset.split(fold)


def test_an_audit_without_training_pairs_is_refused(audited_data, fold_runs, tmp_path):
    data = changed(audited_data.folder, tmp_path / "none", keep="test")
    with pytest.raises(UserError, match=r"there is no judged training pair\.\nPrepare judgements"):
        audit(data, tmp_path / "audit", runs=fold_runs)


def test_decisions_without_rows_need_their_columns_all_the_same(audited_data, fold_runs, tmp_path):
    (tmp_path / "other.csv").write_text("a,b\n")
    with pytest.raises(UserError, match=r"other\.csv: is no file of decisions.*\nGive the file"):
        audit(audited_data.folder, tmp_path / "audit", runs=fold_runs, accept=tmp_path / "other.csv")


def test_an_ensemble_without_held_out_pairs_is_not_fitted(audited_data, fold_runs):
    for run in fold_runs.iterdir():
        predictions = pq.read_table(run / "predictions.parquet")
        pq.write_table(predictions.slice(0, 0), run / "predictions.parquet")
    runs = sorted(fold_runs.iterdir())
    tables_of = [run / "predictions.parquet" for run in runs]
    assert not read_predictions(tables_of, audited_data, TASKS["esci"]).times_E.any()
    with pytest.raises(UserError, match=r"held out 0 queries in common, .*\nTrain all with the same"):
        HeldOutByAll.read([("a", TASKS["esci"], runs), ("b", TASKS["esci"], runs[:1])], audited_data)

"""The report of a run, read back as HTML: whole, escaped, self-contained, and right about what it shows."""

import hashlib
import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.files import write_json
from zhichun.core.tasks import TASKS
from zhichun.fit.recipe import Recipe, load_recipe
from zhichun.measure.evaluate import evaluate
from zhichun.measure.page import History, Plot, Scale, smoothed, thinned
from zhichun.measure.run_page import Scored, mistakes, write_report
from zhichun.metrics import ExpectedCalibrationError, Judged, label_codes
from zhichun.metrics.calibration import Reliability
from zhichun.metrics.figures import measure

VOID = {"meta", "br"}
NASTY = "<script>alert(\"1\")</script> & 'co'"
PAIRS = 60


class Page(HTMLParser):
    """Checks that every element is closed, and keeps what was found."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def row(self, header: str) -> list[str]:
        return next(cells for header_, *cells in self.rows if header_ == header)


def make_run(folder: Path, task_name: str = "esci") -> Path:
    """A run folder as training and evaluating leave it, on a dataset of one product whose title is nasty."""
    run, data, task = folder / "run", folder / "data", TASKS[task_name]
    run.mkdir()
    data.mkdir()
    recipe = load_recipe("tiny").with_settings(["train.epochs=3", f"model.encoder={json.dumps(NASTY)}"]).to_json()
    write_json(run / "recipe.json", {**recipe, "task": task_name})
    pq.write_table(
        pa.table({"product_locale": ["us"], "product_id": ["P"], "product_title": [NASTY]}), data / "products.parquet"
    )
    write_json(data / "manifest.json", {"examples": {"kept": 1234, "queries": 7, "by_label": {"E": 1}}})
    digest = hashlib.sha256((data / "manifest.json").read_bytes()).hexdigest()
    dataset = {"folder": str(data), "manifest": digest}
    environment = {"dataset": dataset, "command": ["zhichun", "train", NASTY], "gpu": None}
    write_json(run / "environment.json", {**environment, "defaults": Recipe().to_json()})
    records = [{"step": s, "loss": 2 / s, "gradient_norm": None if s == 3 else 1.0 + s % 2} for s in range(1, 41)]
    figures = [(20, 0.7), (40, 0.6)]
    records += [{"step": s, "validation": {"loss": 1.0, "micro_f1": value, "ndcg": 0.9}} for s, value in figures]
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records) + '{"step": 41, "lo')
    rng = np.random.default_rng(0)
    labels, query_ids = rng.integers(0, 4, PAIRS), np.arange(PAIRS) // 6
    prediction = task.predict(rng.normal(0, 2, (PAIRS, task.outputs)).astype(np.float32))
    locales = np.where(query_ids % 2, "jp", "us")
    pairs = {
        schema.QUERY: [NASTY] * PAIRS,
        schema.QUERY_ID: query_ids,
        schema.PRODUCT_ID: ["P"] * PAIRS,
        schema.LOCALE: locales,
        schema.LABEL: np.asarray(schema.LABELS)[labels],
        **prediction.columns(),
    }
    pq.write_table(pa.table(pairs), run / "scored.parquet")
    measured = measure(prediction, labels, query_ids, locales)
    write_json(run / "metrics.json", {"split": "test", "task": task_name, "gains": schema.GAINS, **measured})
    return run


def read(run: Path) -> Page:
    return Page(write_report(run).read_text("utf-8"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("report"))


@pytest.mark.parametrize("task", TASKS)
def test_the_page_is_whole_accessible_and_needs_nothing_from_elsewhere(task: str, tmp_path: Path) -> None:
    made = make_run(tmp_path, task)
    page = read(made)
    assert "http" not in (made / "report.html").read_text("utf-8")
    assert not any({"src", "href", "onload"} & set(attributes) for _, attributes in page.elements)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.elements}
    assert len(page.of("h1")) == 1
    assert all(attributes["scope"] in ("row", "col") for attributes in page.of("th"))
    assert len(page.of("caption")) == len(page.of("table")) > 0
    assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes in page.of("svg"))
    for heading in ("Figures", "Training", "What was trained", "Scores by judged label", "Surest mistakes"):
        assert heading in page.text
    assert ("Calibration" in page.text) == ("Classes" in page.text) == (task != "gain")
    assert "nan" not in (made / "report.html").read_text("utf-8")


def test_texts_of_the_data_are_text(run: Path) -> None:
    page = read(run)
    # The command, the encoder (summary, changed and all settings), and query and title of the us pairs among ten.
    assert page.text.count(NASTY) > 10
    assert NASTY not in (run / "report.html").read_text("utf-8")


def test_the_same_files_give_the_same_bytes(run: Path) -> None:
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first


@pytest.mark.parametrize(
    ("missing", "lost"),
    [
        ("environment.json", "zhichun train"),
        ("metrics.jsonl", "Training"),
        ("metrics.json", "Figures, overall"),
        ("scored.parquet", "Calibration"),
        ("../data/manifest.json", "1,234 of 7 queries"),
    ],
)
def test_what_is_missing_is_left_out(missing: str, lost: str, tmp_path: Path) -> None:
    made = make_run(tmp_path)
    assert lost in read(made).text
    (made / missing).unlink()
    assert lost not in read(made).text


def test_a_bare_recipe_is_enough_and_nothing_is_not(tmp_path: Path) -> None:
    write_json(tmp_path / "recipe.json", load_recipe("tiny").to_json())
    assert "Not evaluated yet" in read(tmp_path).text
    (tmp_path / "recipe.json").unlink()
    with pytest.raises(UserError, match=r"no recipe\.json"):
        write_report(tmp_path)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    made = make_run(tmp_path)
    (made / "metrics.json").write_text("{")
    with pytest.raises(UserError, match=r"metrics\.json: cannot be read"):
        write_report(made)


def test_training_leaves_a_report_and_measuring_into_another_folder_leaves_it_alone(
    tiny_run: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    before = (tiny_run / "report.html").read_bytes()
    evaluate(tiny_run, tiny_dataset, out=tmp_path, shown=False)
    assert (tiny_run / "report.html").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.json", "scored.parquet"]


def test_figures_stand_beside_the_baselines(run: Path) -> None:
    page, measured = read(run), json.loads((run / "metrics.json").read_text())
    wanted = [measured, measured["by_locale"]["jp"], measured["by_locale"]["us"]]
    micro = [f"{figures['micro_f1']:.4f}" for figures in [*wanted, measured["always_exact"]]]
    assert page.row("micro-F1") == [*micro, "–"]
    assert page.row("MRR") == [
        *(f"{figures['mrr']:.4f}" for figures in wanted),
        "–",
        f"{measured['random_order']['mrr']:.4f}",
    ]
    row = measured["confusion"][1]
    assert page.row("S\u00a0Substitute") == [f"{count}{count / sum(row):.0%}" for count in row]


def test_settings_that_differ_are_listed_with_their_defaults(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    page = read(run)
    assert page.row("train.epochs") == ["3", "5"]
    assert page.row("objective.loss") == ["CrossEntropy"]
    assert "TrainSettings" not in page.text
    recorded = json.loads((run / "environment.json").read_text())
    del recorded["defaults"]  # as a run of an earlier version has none
    write_json(run / "environment.json", recorded)
    page = read(run)
    assert page.row("train.epochs") == ["3"]
    assert "Settings that differ" not in page.text


def test_importing_the_report_loads_neither_torch_nor_polars() -> None:
    code = "import sys, zhichun.measure.run_page; sys.exit(bool({'torch', 'polars'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_kept_step_is_the_first_of_the_best(run: Path, tmp_path: Path) -> None:
    assert read(run).row("20,\u00a0kept") == ["1.0000", "0.7000", "0.9000"]
    history = History.read(run / "metrics.jsonl")
    best = [history.kept({"metric": name}) for name in ("loss", "ndcg")]
    assert best == [history.validations[0]] * 2
    later = {"step": 60, "validation": {"loss": 0.5, "micro_f1": float("nan"), "ndcg": best[1]["validation"]["ndcg"]}}
    history.validations.append(later)
    assert history.kept({"metric": "loss"}) == later
    assert history.kept({"metric": "ndcg"}) == later  # of equal ones the one with the lower loss, as in training
    assert history.kept({"metric": "micro_f1"}) == history.validations[0]
    assert history.kept({"metric": "micro_f1", "keep": "last"}) == later
    assert history.kept({"metric": "macro_f1"}) is None
    assert History([], []).kept({"keep": "last"}) is None


def test_the_surest_mistakes_come_first_and_right_answers_never() -> None:
    pairs = {
        schema.QUERY: ["right", "sure", "unsure"],
        schema.PRODUCT_ID: ["1", "2", "3"],
        schema.LOCALE: ["us"] * 3,
        schema.LABEL: ["E", "I", "S"],
        "p_E": [0.99, 0.1, 0.5],
        "p_S": [0.01, 0.8, 0.3],
        "p_C": [0.0, 0.1, 0.2],
        "p_I": [0.0, 0.0, 0.0],
        "gain": [0.99, 0.2, 0.5],
    }
    found = mistakes(Scored(TASKS["esci"], pa.table(pairs)))
    assert [(m["query"], m["judged"], m["predicted"], m["surety"]) for m in found] == [
        ("sure", "I", "S", 0.8),
        ("unsure", "S", "E", 0.5),
    ]
    [farthest] = mistakes(Scored(TASKS["gain"], pa.table(pairs)), most=1)
    assert (farthest["query"], farthest["judged"], farthest["predicted"]) == ("unsure", "0.1", "0.500")


def test_the_reliability_diagram_adds_up_to_the_calibration_error(run: Path) -> None:
    scored = Scored.read(run / "scored.parquet", TASKS["esci"])
    assert scored is not None
    assert scored.probabilities is not None
    bins = Reliability.of(scored.probabilities, scored.labels)
    judged = Judged(np.arange(PAIRS), scored.labels, probabilities=scored.probabilities)
    error = (bins.pairs * np.abs(bins.right - bins.sure)).sum() / PAIRS
    assert error == pytest.approx(ExpectedCalibrationError()(judged))
    low, high = bins.interval()
    assert ((low >= -1e-12) & (low <= bins.right + 1e-12) & (bins.right <= high + 1e-12) & (high <= 1 + 1e-12)).all()


def test_wilsons_interval_of_five_in_ten() -> None:
    probabilities = np.tile([0.9, 0.1, 0, 0], (10, 1))
    bins = Reliability.of(probabilities, label_codes(["E"] * 5 + ["S"] * 5))
    assert np.concatenate(bins.interval()) == pytest.approx([0.2366, 0.7634], abs=1e-4)


def test_smoothing_starts_at_the_first_loss_and_skips_what_is_no_number() -> None:
    assert smoothed(np.full(50, 3.0)) == pytest.approx(3.0)
    assert np.isfinite(smoothed(np.array([1.0, np.nan, np.inf, 2.0]))).all()
    assert np.isnan(smoothed(np.array([np.nan, 1.0]))[0])


def test_a_long_run_is_drawn_with_few_points_and_all_of_its_spikes() -> None:
    values = np.ones(100_000)
    values[[77_777, 50_001]] = 9.0, -9.0
    steps, kept = thinned(np.arange(100_000.0), values)
    assert len(kept) <= 600
    assert {9.0, -9.0} <= set(kept)
    assert (np.diff(steps) > 0).all()


def test_ticks_are_round_and_within_the_axis() -> None:
    assert Scale(0, 1, 0, 1).ticks(5) == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert Scale(0.913, 0.937, 0, 1).ticks(5) == [0.915, 0.92, 0.925, 0.93, 0.935]
    assert Scale(1, 1592, 0, 1).ticks(5) == [500, 1000, 1500]


def test_a_plot_keeps_its_marks_within_its_axes() -> None:
    plot = Plot((0, 1), (2, 2), "x", "y", 200)
    plot.line([0, 0.5, 1, 2], [2, float("nan"), 1e9, 2], "a")
    assert plot.marks[-1][1]["points"] == "52.0,83.0 408.0,10.0 408.0,83.0"


@pytest.mark.parametrize("task", TASKS)
def test_without_a_mistake_or_without_a_pair_there_is_a_page_all_the_same(task: str, tmp_path: Path) -> None:
    made = make_run(tmp_path, task)
    pairs = pq.read_table(made / "scored.parquet")
    columns = {name: pairs[name].to_numpy() for name in pairs.column_names}
    labels = label_codes(columns[schema.LABEL])
    targets = TASKS[task].targets(labels)
    columns["gain"] = np.asarray([schema.GAINS["esci"][label] for label in columns[schema.LABEL]], np.float32)
    columns |= {f"p_{name}": (targets == k).astype(np.float32) for k, name in enumerate(TASKS[task].classes)}
    right = pa.table(columns)
    pq.write_table(right, made / "scored.parquet")
    assert "There is no mistake to list" in read(made).text
    pq.write_table(pairs.slice(0, 0), made / "scored.parquet")
    page = read(made).text
    assert "Surest mistakes" not in page
    assert "Calibration" not in page

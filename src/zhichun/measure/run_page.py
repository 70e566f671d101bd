"""The report of a run, put together from what lies in its folder.

Its predictions, ``scored.parquet``, show calibration, scores by label, and the most confident mistakes.

Legend: ``P`` pairs, ``C`` classes, ``K`` bins that hold a pair.
"""

import json
import shlex
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jinja2 import TemplateError

from zhichun.core import schema
from zhichun.core.arrays import Doubles
from zhichun.core.errors import UserError
from zhichun.core.files import read_json, sha256
from zhichun.core.tasks import TASKS, Task
from zhichun.data.dataset import read_parquet
from zhichun.measure.page import (
    Figure,
    History,
    Plot,
    class_name,
    figure_name,
    pretext_tasks,
    training_curves,
    write_page,
)
from zhichun.metrics import class_scores, label_codes
from zhichun.metrics.calibration import Reliability
from zhichun.metrics.figures import baselines, flat

BINS: Final = 15
SCORE_BINS: Final = 20


@dataclass(frozen=True)
class Scored:
    """Scored pairs.

    Parameters
    ----------
    task
        What the run predicts.
    pairs
        ``scored.parquet``: the judged pairs with probabilities, label and gain.
    """

    task: Task
    pairs: pa.Table

    @classmethod
    def read(cls, path: Path, task: Task) -> "Scored | None":
        """Read ``scored.parquet``; None where it is missing or is of another task."""
        if not path.is_file():
            return None
        pairs = read_parquet(path)
        needed = [f"p_{name}" for name in task.classes] or ["gain"]
        return cls(task, pairs) if set(needed) <= set(pairs.column_names) else None

    @property
    def probabilities(self) -> Doubles | None:
        """Probability of each class, ``[P, C]``; a regressor gives none."""
        if not self.task.classes:
            return None
        columns = [self.pairs.column(f"p_{name}").to_numpy() for name in self.task.classes]
        return np.stack(columns, axis=1).astype(np.float64)

    @property
    def score(self) -> Doubles:
        """What pairs are ranked by, ``[P]``: the gain, or the probability of a substitute."""
        name = "p_S" if self.task.name == "substitute" else "gain"
        score: Doubles = self.pairs.column(name).to_numpy().astype(np.float64)
        return score

    @property
    def labels(self) -> npt.NDArray[np.intp]:
        """Judgements as places in `schema.LABELS`, ``[P]``."""
        return label_codes(self.pairs.column(schema.LABEL).to_pylist())

    @property
    def truth(self) -> Doubles:
        """Judgements as the task's targets, ``[P]``: places in its classes, or gains."""
        return np.asarray(self.task.targets(self.labels), np.float64)


def reliability(scored: Scored, error: float | None) -> dict[str, Any] | None:
    """Draw how often the model is right against how sure it is, and list it; none of a regressor."""
    if scored.probabilities is None or not len(scored.pairs):
        return None
    bins = Reliability.of(scored.probabilities, scored.truth.astype(np.intp), BINS)
    plot = Plot((0, 1), (0, 1), "probability of the predicted class", "share right", 320)
    plot.segment((0, 0), (1, 1), "mark")
    for sure, low, high in zip(bins.sure, *bins.interval(), strict=True):
        plot.segment((sure, low), (sure, high), "whisker")
    plot.dots(bins.sure, bins.right, "a", 3 + 6 * np.sqrt(bins.pairs / bins.pairs.max()))
    named = "" if error is None else f" Calibration error {error:.3f}."
    text = (
        "A point on the dashed line is right as often as its probability, one below it less often. Larger points hold "
        f"more pairs; bars are 95 % intervals.{named}"
    )
    rows = [
        [f"{low:.2f} to {low + 1 / BINS:.2f}", f"{pairs:,}", f"{sure:.3f}", f"{right:.3f}"]
        for low, pairs, sure, right in zip(bins.lows, bins.pairs, bins.sure, bins.right, strict=True)
    ]
    return {"figure": Figure(plot, text), "rows": rows}


def score_figures(scored: Scored) -> list[Figure]:
    """Draw how the scores of each judged label are spread; nothing where there is no pair."""
    what = "probability of a substitute" if scored.task.name == "substitute" else "expected gain"
    edges = np.linspace(0, 1, SCORE_BINS + 1)
    shares = {}
    for place, label in enumerate(schema.LABELS):
        of_label = scored.score[scored.labels == place]
        if len(of_label):
            shares[label] = np.histogram(of_label, edges)[0] / len(of_label), len(of_label), float(of_label.mean())
    highest = max((float(share.max()) for share, _, _ in shares.values()), default=1.0)
    figures = []
    for label, (share, count, mean) in shares.items():
        plot = Plot((0, 1), (0, highest), what, "share", 170)
        plot.bars(edges, share, "bars")
        plot.segment((mean, 0), (mean, highest), "mark")
        figures.append(Figure(plot, f"{class_name(label)}: {what} of {count:,} pairs, {mean:.3f} on average (dashed)."))
    return figures


def mistakes(scored: Scored, most: int = 10) -> list[dict[str, Any]]:
    """Find the worst mistakes: the most probable wrong classes, or the gains farthest from the judged ones.

    Returns
    -------
    list
        The pairs, with what was ``judged``, what was ``predicted``, and its ``surety``: how sure a classifier was, or
        how far off a regressor.
    """
    truth_P, probabilities_PC = scored.truth, scored.probabilities
    if probabilities_PC is None:
        surety_P = np.abs(scored.score - truth_P)
        predicted = [f"{gain:.3f}" for gain in scored.score]
        judged = [f"{gain:g}" for gain in truth_P]
    else:
        # A right answer sinks below all wrong ones.
        predicted_P = probabilities_PC.argmax(axis=1)
        surety_P = np.where(predicted_P == truth_P, 0.0, probabilities_PC.max(axis=1))
        predicted = [scored.task.classes[place] for place in predicted_P]
        judged = [scored.task.classes[int(place)] for place in truth_P]
    worst = [place for place in np.argsort(-surety_P, kind="stable")[:most].tolist() if surety_P[place] > 0]
    pairs = scored.pairs.take(pa.array(worst, pa.int64())).to_pylist()
    return [
        {**pair, "judged": judged[place], "predicted": predicted[place], "surety": float(surety_P[place])}
        for place, pair in zip(worst, pairs, strict=True)
    ]


# The figures at the top of the page, as far as the task has them.
HEADLINES: Final = ("micro_f1", "macro_f1", "ndcg", "ece")


def write_report(run: Path) -> Path:
    """Write ``report.html`` into a run folder, from the files that are there; what is missing is left out.

    Parameters
    ----------
    run
        The run folder: ``recipe.json``, and where they are ``environment.json``, ``metrics.jsonl`` (training),
        ``metrics.json`` and ``scored.parquet`` (evaluation).

    Returns
    -------
    Path
        The page: no script, nothing from elsewhere, and the same bytes for the same files.

    Raises
    ------
    UserError
        For a folder without a recipe, and for a damaged file; where no file was changed, the fault is ours, and the
        message says where it is.
    """
    if not (run / "recipe.json").is_file():
        raise UserError("not a run folder: there is no recipe.json.", file=run, remedy="Make one with: zhichun train")
    recipe, environment, measured = (_optional(run / f"{name}.json") for name in ("recipe", "environment", "metrics"))
    history = History.read(run / "metrics.jsonl")
    try:
        values = {
            **_summary(recipe, history, measured),
            **_evaluation(run, measured, environment.get("dataset", {})),
            "training": training_curves(history, recipe),
            **_trained(recipe, environment),
        }
        title = f"Report of {run.resolve().name}"
        return write_page(run / "report.html", "run.html", title=title, **values)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, TemplateError) as error:
        fault = traceback.extract_tb(error.__traceback__)[-1]
        raise UserError(
            "no report can be made of recipe.json, environment.json, metrics.json and metrics.jsonl "
            f"({error!r} in {Path(fault.filename).name}, line {fault.lineno}).",
            file=run,
            remedy="If one of them was changed, evaluate the run again (zhichun evaluate RUN --data DATA) or copy the "
            "folder again; if none was, this is a fault of zhichun: please report it with this line.",
        ) from error


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _summary(recipe: dict[str, Any], history: History, measured: dict[str, Any]) -> dict[str, Any]:
    """Say in a line what this is, and give the figures that matter most."""
    steps = history.steps[-1]["step"] if history.steps else 0
    how = f"encoder {recipe.get('model', {}).get('encoder', '–')}, {steps:,} steps."
    kept = history.kept(recipe.get("train", {}))
    held_out = {} if kept is None else kept["validation"]
    if recipe.get("kind") == "PretrainingRecipe":
        tasks = pretext_tasks(recipe)
        keys = [key for name in tasks for key in (f"{name}.loss", f"{name}.accuracy") if key in held_out]
        shown = [key for key in keys if key == "mlm.loss" or key.endswith(".accuracy")]
        cards = [(figure_name(key, tasks), f"{held_out[key]:.3f}", ["held-out products"]) for key in shown]
        return {"summary": f"Pre-training with {', '.join(tasks.values())}, {how}", "cards": cards}
    text = f"Task {recipe.get('task', '–')}, {how}"
    if measured:
        which = f"split: {measured['split']}, version: {measured.get('version', 'all')}"
        text += f" Measured on {measured['pairs']:,} pairs of {measured['queries']:,} queries ({which})."
        if measured.get("trained_on"):
            text += f" {measured['trained_on']:,} of them were trained on: figures are worse on new queries."
    else:
        text += " Not evaluated yet: zhichun evaluate adds figures, calibration and mistakes."
    source, beside = measured or held_out, baselines(measured)
    cards = []
    for key in HEADLINES:
        if key in source:
            notes = [f"{name} {figures[key]:.3f}" for name, figures in beside.items() if key in figures]
            cards.append((figure_name(key), f"{source[key]:.3f}", notes if measured else ["held-out queries"]))
    return {"summary": text, "cards": cards}


def _evaluation(run: Path, measured: dict[str, Any], dataset: dict[str, str]) -> dict[str, Any]:
    """Return what the page shows of an evaluation; empty parts where there was none."""
    shown: dict[str, Any] = {"measured": measured, "scored": False, "classes": None, "reliability": None}
    shown |= {"scores": [], "mistakes": []}
    if not measured:
        return shown
    task = TASKS[measured["task"]]
    columns = {"all": measured, **measured.get("by_locale", {}), **measured.get("by_list", {})}
    shown["columns"] = columns
    shown["figures"] = {name: flat(column) for name, column in columns.items()} | baselines(measured)
    if "confusion" in measured:
        scores = class_scores(np.asarray(measured["confusion"], np.intp))
        shown["classes"] = {"names": list(task.classes), "scores": scores}
    if (scored := Scored.read(run / "scored.parquet", task)) is not None:
        shown["scored"] = len(scored.pairs) > 0
        shown["reliability"] = reliability(scored, measured.get("ece"))
        shown["scores"] = score_figures(scored)
        found = mistakes(scored)
        titles = _titles({pair[schema.PRODUCT_ID] for pair in found}, dataset)
        shown["mistakes"] = [
            {**pair, "title": titles.get((pair[schema.LOCALE], pair[schema.PRODUCT_ID])) or ""} for pair in found
        ]
    return shown


def _titles(product_ids: set[str], dataset: dict[str, str]) -> dict[tuple[str, str], str | None]:
    """Look titles up by locale and product id, where the dataset that the run was trained on is still there."""
    path = Path(dataset.get("folder", "")) / schema.PRODUCTS_FILE
    if not product_ids or _manifest(dataset) is None or not path.is_file():
        return {}
    columns = [schema.LOCALE, schema.PRODUCT_ID, schema.TITLE]
    wanted = pc.field(schema.PRODUCT_ID).isin(sorted(product_ids))
    products = pq.read_table(path, columns=columns, filters=wanted).to_pylist()
    return {(row[schema.LOCALE], row[schema.PRODUCT_ID]): row[schema.TITLE] for row in products}


def _manifest(dataset: dict[str, str]) -> dict[str, Any] | None:
    """Read the manifest of the dataset that a run was trained on, where it is still there and still the same."""
    path = Path(dataset.get("folder", "")) / "manifest.json"
    return read_json(path) if path.is_file() and sha256(path) == dataset.get("manifest") else None


def _trained(recipe: dict[str, Any], environment: dict[str, Any]) -> dict[str, Any]:
    """Return the settings, those that differ from their defaults, the data and the environment."""
    # What only groups settings says nothing; the name of a loss or a method does.
    settings = {name: value for name, value in _flat_settings(recipe).items() if not value.endswith("Settings")}
    changed = None
    if "defaults" in environment:
        defaults = _flat_settings(environment["defaults"])
        changed = [[*item, defaults.get(item[0], "–")] for item in settings.items() if defaults.get(item[0]) != item[1]]
    apart = ("dataset", "command", "libraries", "defaults")
    rows = {name: "none" if value is None else str(value) for name, value in environment.items() if name not in apart}
    return {
        "command": shlex.join(map(str, environment.get("command", ()))),
        "changed": changed,
        "settings": list(settings.items()),
        "dataset": environment.get("dataset", {}),
        "manifest": _manifest(environment.get("dataset", {})),
        "environment": [*rows.items(), *environment.get("libraries", {}).items()],
    }


def _flat_settings(settings: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Return every setting by its dotted name, as JSON; a loss or a method is followed by its own settings."""
    found = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            if "kind" in value:
                found[prefix + name] = str(value["kind"])
            found |= _flat_settings({key: item for key, item in value.items() if key != "kind"}, f"{prefix}{name}.")
        elif name not in ("kind", "format"):
            found[prefix + name] = json.dumps(value, ensure_ascii=False)
    return found

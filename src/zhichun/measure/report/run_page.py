"""The report of a run, put together from what lies in its folder.

Legend: ``C`` classes.
"""

import hashlib
import json
import shlex
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jinja2 import TemplateError

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.files import read_json
from zhichun.core.tasks import TASKS, Task
from zhichun.measure.report.curves import History, training_curves
from zhichun.measure.report.page import bar, class_name, figure_name, heat_row, pretext_tasks, write_page
from zhichun.measure.report.scored import Scored, mistakes, reliability, score_figures
from zhichun.metrics import class_scores

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
        For a folder without a recipe, and for a damaged file.
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
        raise UserError(
            f"recipe.json, environment.json, metrics.json or metrics.jsonl is not as it was written ({error!r}).",
            file=run,
            remedy="Evaluate the run again: zhichun evaluate RUN --data DATA; or copy the folder again.",
        ) from error


def _optional(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = read_json(path) if path.is_file() else {}
    return found


def _summary(recipe: dict[str, Any], history: History, measured: dict[str, Any]) -> dict[str, Any]:
    """Say in a line what this is, and give the figures that matter most."""
    steps = history.steps[-1]["step"] if history.steps else 0
    how = f"encoder {recipe.get('model', {}).get('encoder', '–')}, {steps:,} steps."
    kept = history.kept(recipe.get("train", {}).get("metric", ""))
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
    else:
        text += " Not evaluated yet: zhichun evaluate adds figures, calibration and mistakes."
    source, beside = measured or held_out, _baselines(measured)
    cards = []
    for key in HEADLINES:
        if key in source:
            notes = [f"{name} {figures[key]:.3f}" for name, figures in beside.items() if key in figures]
            cards.append((figure_name(key), f"{source[key]:.3f}", notes if measured else ["held-out queries"]))
    return {"summary": text, "cards": cards}


def _baselines(measured: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return the baselines by name: always the first class, and a random order."""
    found = {f"always {name[7:].capitalize()}": value for name, value in measured.items() if name.startswith("always_")}
    return {**found, "random order": measured["random_order"]} if "random_order" in measured else found


def _evaluation(run: Path, measured: dict[str, Any], dataset: dict[str, str]) -> dict[str, Any]:
    """Return what the page shows of an evaluation; empty parts where there was none."""
    shown: dict[str, Any] = {"measured": measured, "scored": False, "classes": None, "reliability": None}
    shown |= {"scores": [], "mistakes": []}
    if not measured:
        return shown
    task = TASKS[measured["task"]]
    shown["figures"] = _figure_rows(measured)
    if "confusion" in measured:
        shown["classes"] = _classes(measured["confusion"], task)
    if (scored := Scored.read(run / "scored.parquet", task)) is not None:
        shown["scored"] = len(scored.pairs) > 0
        shown["reliability"] = reliability(scored, measured.get("ece"))
        shown["scores"] = score_figures(scored)
        found = mistakes(scored)
        titles = _titles({mistake.product_id for mistake in found}, dataset)
        shown["mistakes"] = [
            {**vars(mistake), "title": titles.get((mistake.locale, mistake.product_id)) or ""} for mistake in found
        ]
    return shown


def _figure_rows(measured: dict[str, Any]) -> list[list[str]]:
    """List all figures, overall and by locale, beside the baselines; the first row has the names of the columns."""
    columns = {"all": measured, **measured.get("by_locale", {})}
    flat = {name: _flat(column) for name, column in columns.items()} | _baselines(measured)
    counts = [
        [what, *(f"{columns[name].get(what, 0):,}" if name in columns else "–" for name in flat)]
        for what in ("pairs", "queries")
    ]
    rows = [
        [figure_name(key), *(f"{column[key]:.4f}" if key in column else "–" for column in flat.values())]
        for key in flat["all"]
    ]
    return [["figure", *flat], *counts, *rows]


def _flat(measured: dict[str, Any]) -> dict[str, float]:
    """Take the figures out of what `zhichun.metrics.figures.measure` gives, those of task 3 under their own names."""
    found = {key: value for key, value in measured.items() if isinstance(value, float)}
    return found | {f"substitute.{key}": value for key, value in measured.get("substitute", {}).items()}


def _classes(counts_CC: list[list[int]], task: Task) -> dict[str, Any]:
    """Return the confusion matrix as a heat map, and F1, precision and recall of each class."""
    scores = class_scores(np.asarray(counts_CC, np.intp))
    confusion = [heat_row(class_name(name), counts) for name, counts in zip(task.classes, counts_CC, strict=True)]
    rows = []
    for place, name in enumerate(task.classes):
        others = f"{scores.precision[place]:.3f}", f"{scores.recall[place]:.3f}", f"{scores.support[place]:,}"
        rows.append([class_name(name), bar(f"{scores.f1[place]:.3f}", scores.f1[place]), *others])
    return {"names": list(task.classes), "confusion": confusion, "scores": rows}


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
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != dataset.get("manifest"):
        return None
    manifest: dict[str, Any] = read_json(path)
    return manifest


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
        "data": _data_rows(environment.get("dataset", {})),
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


def _data_rows(dataset: dict[str, str]) -> list[list[str]]:
    rows = [["folder", dataset.get("folder", "–")], ["manifest, SHA-256", dataset.get("manifest", "–")]]
    if manifest := _manifest(dataset):
        examples = manifest.get("examples", {})
        rows.append(["judged pairs", f"{examples.get('kept', 0):,} of {examples.get('queries', 0):,} queries"])
        rows.append(["products", f"{manifest.get('products', {}).get('kept', 0):,}"])
        for kind in ("split", "locale", "label"):
            if counts := examples.get(f"by_{kind}"):
                rows.append([f"by {kind}", ", ".join(f"{name} {count:,}" for name, count in counts.items())])
        for source in manifest.get("sources", []):
            rows.append([f"source of {source['part']}", f"{source['file']}, SHA-256 {source['sha256']}"])
    return rows

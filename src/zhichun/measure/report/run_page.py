"""The report of a run, put together from what lies in its folder.

Legend: ``C`` classes.
"""

import json
import shlex
import traceback
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jinja2 import TemplateError

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.files import read_json, sha256
from zhichun.core.tasks import TASKS
from zhichun.measure.report.curves import History, training_curves
from zhichun.measure.report.page import figure_name, pretext_tasks, write_page
from zhichun.measure.report.scored import Scored, mistakes, reliability, score_figures
from zhichun.metrics import class_scores
from zhichun.metrics.figures import baselines, flat

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
    if not path.is_file() or sha256(path) != dataset.get("manifest"):
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

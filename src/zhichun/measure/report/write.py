"""Puts the report together from what lies in a run folder, and writes it."""

from pathlib import Path
from typing import Any

from zhichun.core.errors import UserError
from zhichun.core.files import read_json, write_text
from zhichun.core.tasks import TASKS
from zhichun.measure.report.calibration import reliability_plots, score_plots
from zhichun.measure.report.evaluated import baselines, classes_table, confusion_table, figures_table
from zhichun.measure.report.html import Html, cards, page, section, tag
from zhichun.measure.report.mistakes import mistakes_table
from zhichun.measure.report.names import PRETEXT_TASKS, figure_name
from zhichun.measure.report.scored import Scored
from zhichun.measure.report.trained import trained_section
from zhichun.measure.report.training import History, training_section

# The figures at the top of the page, as far as the task has them.
HEADLINES = ("micro_f1", "macro_f1", "ndcg", "ece")


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
    recipe = read_json(run / "recipe.json")
    environment = _optional(run / "environment.json")
    measured = _optional(run / "metrics.json")
    history = History.read(run / "metrics.jsonl")
    sections = [
        _summary(recipe, history, measured),
        *_evaluation(run, measured, environment.get("dataset", {})),
        training_section(history, recipe.get("train", {})),
        trained_section(recipe, environment),
    ]
    out = run / "report.html"
    write_text(out, page(f"Report of {run.resolve().name}", *(part for part in sections if part is not None)))
    return out


def _optional(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = read_json(path) if path.is_file() else {}
    return found


def _summary(recipe: dict[str, Any], history: History, measured: dict[str, Any]) -> Html:
    """Say in a line what this is, and show the figures that matter most."""
    encoder = recipe.get("model", {}).get("encoder", "–")
    steps = history.steps[-1]["step"] if history.steps else 0
    if recipe.get("kind") == "PretrainingRecipe":
        return _summary_of_pretraining(recipe, history, f"encoder {encoder}, {steps:,} steps")
    text = f"Task {recipe.get('task', '–')}, encoder {encoder}, {steps:,} steps."
    if measured:
        which = f"split: {measured['split']}, version: {measured.get('version', 'all')}"
        text += f" Measured on {measured['pairs']:,} pairs of {measured['queries']:,} queries ({which})."
        source, beside = measured, baselines(measured)
    else:
        text += " Not evaluated yet: zhichun evaluate adds figures, calibration and mistakes."
        kept = history.kept(recipe.get("train", {}).get("metric", ""))
        source, beside = {} if kept is None else kept["validation"], {}
    entries = []
    for key in HEADLINES:
        if key in source:
            notes = [f"{name} {figures[key]:.3f}" for name, figures in beside.items() if key in figures]
            notes += [] if measured else ["held-out queries"]
            entries.append((figure_name(key), f"{source[key]:.3f}", notes))
    return tag("section", tag("p", text), cards(entries))


def _summary_of_pretraining(recipe: dict[str, Any], history: History, how: str) -> Html:
    """Say which tasks were learnt, and how well at the step whose weights were kept."""
    tasks = [name for name in PRETEXT_TASKS if recipe["objective"].get(name)]
    text = f"Pre-training with {', '.join(PRETEXT_TASKS[name] for name in tasks)}, {how}."
    kept = history.kept(recipe["train"]["metric"])
    figures = {} if kept is None else kept["validation"]
    keys = [key for name in tasks for key in (f"{name}.loss", f"{name}.accuracy") if key in figures]
    shown = [key for key in keys if key == "mlm.loss" or key.endswith(".accuracy")]
    entries = [(figure_name(key), f"{figures[key]:.3f}", ["held-out products"]) for key in shown]
    return tag("section", tag("p", text), cards(entries))


def _evaluation(run: Path, measured: dict[str, Any], dataset: dict[str, str]) -> list[Html]:
    """Make the sections of an evaluation; none where there was none."""
    if not measured:
        return []
    task = TASKS[measured["task"]]
    sections = [section("Figures", figures_table(measured), _gains(measured))]
    if "confusion" in measured:
        tables = (
            confusion_table(measured["confusion"], task.classes),
            classes_table(measured["confusion"], task.classes),
        )
        sections.append(section("Classes", tag("div", *tables, class_="plots")))
    if (scored := Scored.read(run / "scored.parquet", task)) is None:
        return sections
    if plots := reliability_plots(scored, measured.get("ece")):
        sections.append(section("Calibration", tag("div", *plots, class_="plots")))
    sections.append(section("Scores by judged label", tag("div", *score_plots(scored), class_="plots")))
    if (worst := mistakes_table(scored, measured["split"], dataset)) is not None:
        note = tag("p", "Some of them may be wrong judgements rather than wrong answers.")
        sections.append(section("Surest mistakes", note, worst))
    return sections


def _gains(measured: dict[str, Any]) -> Html:
    """Say which gains nDCG was measured with."""
    presets = measured.get("gains", {}).items()
    said = [f"{name} ({', '.join(f'{label} {gain:g}' for label, gain in gains.items())})" for name, gains in presets]
    return tag("p", f"Gains of nDCG: {'; '.join(said)}. Ties count as the mean over all their orders.")

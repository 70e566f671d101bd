"""What was trained: settings, data and environment, from ``recipe.json``, ``environment.json`` and the dataset."""

import hashlib
import json
import shlex
from pathlib import Path
from typing import Any

from zhichun.core.files import read_json
from zhichun.measure.report.html import Html, folded, section, table, tag


def trained_section(recipe: dict[str, Any], environment: dict[str, Any]) -> Html:
    """Show the settings that differ from their defaults, all settings, the data and the environment."""
    settings, defaults = flattened(recipe), flattened(default_recipe(str(recipe.get("kind", ""))))
    # What only groups settings says nothing; the name of a loss or a method does.
    settings = {name: value for name, value in settings.items() if not value.endswith("Settings")}
    parts = []
    if command := environment.get("command"):
        parts.append(tag("pre", tag("code", shlex.join(map(str, command)))))
    if defaults:
        changed = [
            [name, value, defaults.get(name, "–")] for name, value in settings.items() if defaults.get(name) != value
        ]
        title = "Settings that differ from their defaults"
        parts.append(table(title, ["setting", "value", "default"], changed, numbers=False))
    parts.append(folded("All settings", table("All settings", ["setting", "value"], settings.items(), numbers=False)))
    parts.append(_data(environment.get("dataset", {})))
    parts.append(folded("Environment", _environment(environment)))
    return section("What was trained", *parts)


def flattened(settings: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Give every setting by its dotted name, as JSON; a loss or a method is followed by its own settings."""
    found = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            if "kind" in value:
                found[prefix + name] = str(value["kind"])
            inner = {key: item for key, item in value.items() if key != "kind"}
            found |= flattened(inner, f"{prefix}{name}.")
        elif name not in ("kind", "format"):
            found[prefix + name] = json.dumps(value, ensure_ascii=False)
    return found


def default_recipe(kind: str) -> dict[str, Any]:
    """Give the recipe of all defaults, of the same kind; nothing where torch is missing, beside whose modules they are.

    Training and evaluating have torch loaded already; who only reads a run folder needs none.
    """
    try:
        from zhichun.fit.recipe import PretrainingRecipe, Recipe
    except ImportError:
        return {}
    return (PretrainingRecipe() if kind == PretrainingRecipe.__name__ else Recipe()).to_json()


def open_manifest(dataset: dict[str, str]) -> dict[str, Any] | None:
    """Read the manifest of the dataset that a run was trained on, where it is still there and still the same.

    Parameters
    ----------
    dataset
        ``folder`` and ``manifest`` (the SHA-256 of its manifest) of ``environment.json``.
    """
    path = Path(dataset.get("folder", "")) / "manifest.json"
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != dataset.get("manifest"):
        return None
    manifest: dict[str, Any] = read_json(path)
    return manifest


def _data(dataset: dict[str, str]) -> Html:
    rows = [["folder", dataset.get("folder", "–")], ["manifest, SHA-256", dataset.get("manifest", "–")]]
    if manifest := open_manifest(dataset):
        examples = manifest.get("examples", {})
        rows.append(["judged pairs", f"{examples.get('kept', 0):,} of {examples.get('queries', 0):,} queries"])
        rows.append(["products", f"{manifest.get('products', {}).get('kept', 0):,}"])
        for kind in ("split", "locale", "label"):
            if counts := examples.get(f"by_{kind}"):
                rows.append([f"by {kind}", ", ".join(f"{name} {count:,}" for name, count in counts.items())])
        for source in manifest.get("sources", []):
            rows.append([f"source of {source['part']}", f"{source['file']}, SHA-256 {source['sha256']}"])
    return table("Data", ["data", "value"], rows, numbers=False)


def _environment(environment: dict[str, Any]) -> Html:
    shown = {name: value for name, value in environment.items() if name not in ("dataset", "command", "libraries")}
    rows = [[name, "none" if value is None else str(value)] for name, value in shown.items()]
    rows += [[name, version] for name, version in environment.get("libraries", {}).items()]
    return table("Environment", ["what", "value"], rows, numbers=False)

"""What the benchmarks take from the package is there: a name that moved fails here, not in an hour's run."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def taken(path: Path) -> set[tuple[str, str]]:
    """Each module of the package that a script imports from, with the name that it takes."""
    imports = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom))
    return {
        (node.module, alias.name)
        for node in imports
        if (node.module or "").startswith("zhichun")
        for alias in node.names
    }


@pytest.mark.parametrize("script", sorted(BENCHMARKS.rglob("*.py")), ids=lambda path: path.name)
def test_every_name_exists(script: Path) -> None:
    for module, name in sorted(taken(script)):
        if not hasattr(importlib.import_module(module), name):
            importlib.import_module(f"{module}.{name}")


def test_what_is_made_of_other_data_or_settings_lies_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    esci_arguments, found = importlib.import_module("esci_arguments"), list[Path]()
    for place in ("a/data", "b/data"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "examples.parquet").write_text(place)
        found += [esci_arguments.apart(tmp_path, tmp_path / place, *others) for others in ((), ("tiny",))]
    assert len(set(found)) == 4
    assert esci_arguments.apart(tmp_path, tmp_path / "a/data") == found[0]

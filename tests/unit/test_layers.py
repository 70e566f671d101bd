"""Who may import whom: the levels of the design, read off the source with `ast`."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import zhichun

SOURCE = Path(zhichun.__file__).parent

# A module imports only from its own level or below. A new one must be given a place here.
LEVELS = (
    {"core"},
    {"text", "metrics"},
    {"data", "model"},
    {"objective", "score"},
    {"measure"},
    {"fit"},
    {"judgements", "serve"},
    {"cli", "__main__"},
)
LEVEL_OF = {unit: level for level, units in enumerate(LEVELS) for unit in units}


def modules() -> dict[str, Path]:
    found = {}
    for path in SOURCE.rglob("*.py"):
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def unit_of(module: str) -> str:
    """The module or package of level: `zhichun.text.pairs` belongs to `text`."""
    return [*module.split("."), ""][1]


def statements(tree: ast.AST, *, when_loaded: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """Give the import statements; ``when_loaded`` leaves out those in functions and for type checkers only."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif not (when_loaded and is_put_off(node)):
            yield from statements(node, when_loaded=when_loaded)


def is_put_off(node: ast.AST) -> bool:
    is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    return is_function or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")


@cache
def imports(module: str, *, when_loaded: bool = False) -> frozenset[str]:
    """Name what a module imports: modules of ours in full, others as they are written."""
    found = set()
    for node in statements(ast.parse(MODULES[module].read_text("utf-8")), when_loaded=when_loaded):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
            continue
        assert not node.level, f"{module}: relative imports hide where something comes from"
        for alias in node.names:
            inner = f"{node.module}.{alias.name}"
            found.add(inner if inner in MODULES or not unit_of(f"{node.module}") else str(node.module))
    return frozenset(found)


@cache
def loaded_with(module: str) -> frozenset[str]:
    """Name everything that importing a module loads, packages on the way included."""
    waiting, seen = [module], set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        parents = name.split(".")[:-1]
        waiting += [".".join(parents[: depth + 1]) for depth in range(len(parents))]
        if name in MODULES:
            waiting += imports(name, when_loaded=True)
    return frozenset(seen)


def outside(names: frozenset[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def test_every_module_has_a_level():
    assert not {unit_of(module) for module in MODULES} - set(LEVEL_OF) - {""}


def test_a_module_imports_only_from_its_own_level_or_below():
    upwards = {
        f"{module} imports {name}"
        for module in MODULES
        if module != "zhichun"  # its public names come from all levels
        for name in imports(module)
        if name.startswith("zhichun.") and LEVEL_OF[unit_of(name)] > LEVEL_OF[unit_of(module)]
    }
    assert upwards == set()


def test_text_data_metrics_and_serving_never_need_torch():
    heavy = {"torch", "transformers", "accelerate", "safetensors"}
    light = [module for module in MODULES if unit_of(module) in ("text", "data", "metrics", "serve")]
    assert len(light) > 30
    assert not {module for module in light if outside(imports(module) | loaded_with(module)) & heavy}


def users_of(library: str) -> set[str]:
    return {module for module in MODULES if library in outside(imports(module))}


def test_only_the_training_knows_accelerate():
    assert {unit_of(module) for module in users_of("accelerate")} == {"fit"}


def test_only_the_encoder_knows_the_classes_of_transformers():
    # Three files beside it know no class of a model: two put attention into transformers' registry, one makes a config.
    beside = {"zhichun.model.layers", "zhichun.model.attention", "zhichun.model.encoder_settings"}
    assert users_of("transformers") <= {"zhichun.model.encoder", "zhichun.model.translator", *beside}


def test_polars_is_used_in_data_preparation_only():
    assert {unit_of(module) for module in users_of("polars")} == {"data"}
    for module in ("fit.train", "measure.evaluate", "score.rank", "score.job", "measure.run_page", "cli"):
        assert "polars" not in outside(loaded_with(f"zhichun.{module}")), module


@pytest.mark.parametrize("command", ["import zhichun", "from zhichun.cli import main; main(['--help'])"])
def test_the_package_and_its_help_load_neither_torch_nor_polars(command):
    check = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('LOADED', *{'torch', 'polars', 'transformers', 'pyarrow'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", check + command], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].split() == ["LOADED"]


def test_every_public_name_is_there():
    assert all(getattr(zhichun, name) is not None for name in zhichun.__all__)
    with pytest.raises(AttributeError, match="no attribute 'scorer'"):
        _ = zhichun.scorer

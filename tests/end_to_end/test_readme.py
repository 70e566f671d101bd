"""What README and docs name exists: commands with their options, settings, files, modules, columns and links.

The commands themselves are run elsewhere; nothing is trained here.
"""

import ast
import doctest
import importlib
import importlib.util
import inspect
import itertools
import re
import shlex
import textwrap
from pathlib import Path

import numpy as np
import pytest
import typer

from zhichun.cli import app
from zhichun.core import schema
from zhichun.core.tasks import TASKS
from zhichun.data.prepare.prepare import EXAMPLES_SCHEMA
from zhichun.data.readers import rejected
from zhichun.fit.recipe import AnyRecipe, PretrainingRecipe, Recipe, describe, load_recipe
from zhichun.metrics.figures import measure

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "experiments" / "LOG.md"]
PAGES += sorted(page for page in (ROOT / "docs").rglob("*.md") if page.parent.name != "reference")  # generated
GROUP = typer.main.get_command(app)
COMMANDS = GROUP.commands
OTHER_TOOLS_OPTIONS = {"--num_processes", "--node-rank", "--machine_rank", "--http1-header-read-timeout"}
FOLDERS = "src|tests|docs|benchmarks|experiments|examples"

on_every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page, language):
    found = re.findall(r"^( *)```(\w*)\n(.*?)^\1```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(body) for _, its_language, body in found if its_language == language]


def prose(page):
    """Return a page without its blocks of code."""
    return re.sub(r"^( *)```.*?^\1```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def inline_code(page):
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(page))]


def shell_lines():
    for page in PAGES:
        for block in blocks(page, "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words:
                    yield pytest.param(words, id=f"{page.stem}: {' '.join(words)[:60]}")


def slug(heading):
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def exists(path):
    path = path.replace("NAME", "*")  # what CONTRIBUTING calls a new file
    return (ROOT / path).exists() or bool(list(ROOT.glob(path)) if "*" in path else False)


@pytest.mark.parametrize("words", list(shell_lines()))
def test_every_command_line_is_understood(words, monkeypatch):
    monkeypatch.setattr("zhichun.cli.options.local", Path)  # the runs that they name are not there
    words = list(itertools.dropwhile(lambda word: re.fullmatch(r"[A-Z_]+=\S*", word), words))
    tool = Path(words[0]).name
    if tool in ("accelerate", "torchrun"):
        tool, words = "zhichun", words[words.index("-m") + 1 :]
    if tool == "sbatch":
        words = shlex.split(words[words.index("--wrap") + 1])
        tool = words[0]
    if tool == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
        assert set(words[1:]) <= set(targets)
    elif tool == "zhichun":
        context = COMMANDS[words[1]].make_context(words[1], words[2:])
        name = context.params.get("recipe") or context.params.get("name")
        if name and not name.endswith(".json"):
            load_recipe(name, AnyRecipe).with_settings(context.params["settings"] or [])
    else:
        assert tool in ("pip", "pytest", "curl", "podman", "git", "python")


@on_every_page
def test_commands_and_options_in_the_text_exist(page):
    options = {option for command in (GROUP, *COMMANDS.values()) for param in command.params for option in param.opts}
    for code in inline_code(page):
        if command := re.match(r"zhichun ([a-z]+)\b", code):
            assert command[1] in COMMANDS, code
        for option in re.findall(r"(?<!\S)--[a-z][\w-]*", code if code.startswith(("--", "zhichun ")) else ""):
            assert option in options | OTHER_TOOLS_OPTIONS, code


@on_every_page
def test_settings_in_the_text_exist(page):
    pretraining = load_recipe("kdd2022:pretrain", PretrainingRecipe).with_settings(["objective.pair_mlm=PairMLM"])
    split = Recipe().with_settings(["model.interaction=Split"])
    known = {setting for recipe in (Recipe(), split, pretraining) for setting, _, _ in describe(recipe)}
    for code in inline_code(page):
        if setting := re.fullmatch(r"((?:model|objective|train)\.[a-z_.]+)(=\S+)?", code):
            assert setting[1] in known, code
    for setting in re.findall(r'"([a-z_.]+)=\S+"', "".join(blocks(page, "python"))):
        assert setting in known


@on_every_page
def test_files_folders_and_modules_exist(page):
    text = re.sub(r"\]\([^)]*\)", "]", page.read_text("utf-8"))  # links are relative to their page and tested apart
    for path in re.findall(rf"(?<![\w./-])(?:{FOLDERS})/[\w./-]*\w", text):
        assert exists(path), path
    for code in inline_code(page):
        if re.fullmatch(r"[\w./-]+\.(?:py|md|toml|txt)", code):
            assert exists(code), code
        if re.fullmatch(r"zhichun(?:\.\w+)+", code):
            assert resolve(code) is not None


@on_every_page
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", prose(target), re.MULTILINE)
            assert anchor in map(slug, headings), link


def test_the_tree_is_made_of_the_packages_docstrings():
    spec = importlib.util.spec_from_file_location("source_tree", ROOT / "docs" / "source_tree.py")
    source_tree = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(source_tree)
    assert source_tree.tree() in README.read_text("utf-8"), "write it anew: python docs/source_tree.py"


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.stem)
def test_python_calls_only_what_there_is(page):
    for block in blocks(page, "python"):
        tree, names = ast.parse(block), {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("zhichun"):
                names |= {each.name: getattr(importlib.import_module(node.module), each.name) for each in node.names}
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
                made_by = getattr(find(node.value.func, names), "__self__", None)
                names |= {target.id: made_by for target in node.targets if inspect.isclass(made_by)}
        for node in ast.walk(tree):
            called = isinstance(node, ast.Call) and find(node.func, names)
            if called:
                of_object = isinstance(node.func, ast.Attribute) and inspect.isfunction(called)
                keywords = {keyword.arg: None for keyword in node.keywords}
                inspect.signature(called).bind(*[None] * of_object, *node.args, **keywords)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "pycon")], ids=lambda page: page.stem)
def test_examples_print_what_they_say(page):
    for block in blocks(page, "pycon"):
        test = doctest.DocTestParser().get_doctest(block, {}, page.name, str(page), 0)
        assert test.examples
        doctest.DebugRunner().run(test)


def test_the_pages_name_every_column_and_figure_and_no_reason_that_does_not_exist():
    page = ROOT / "docs" / "data.md"
    assert {*EXAMPLES_SCHEMA.names, *schema.PRODUCT_COLUMNS} <= set(inline_code(page))
    (table,) = re.findall(r"^\| reason \|.*?\n\n", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    reasons = {value for name, value in vars(rejected).items() if name.isupper() and isinstance(value, str)}
    named = set(re.findall(r"^\| `([^`]+)`", table, re.MULTILINE))
    assert len(named) > 10
    assert named <= reasons
    labels = np.arange(4)
    prediction = TASKS["esci"].predict(np.eye(4, dtype=np.float32))
    figures = measure(prediction, labels, np.zeros(4, int), np.full(4, "us"))
    assert set(figures) - {"pairs", "queries"} <= set(inline_code(ROOT / "docs" / "metrics.md"))
    columns = {name for task in TASKS.values() for name in task.predict(np.eye(4, task.outputs, dtype="f4")).columns()}
    assert columns <= set(inline_code(ROOT / "docs" / "scoring.md"))


def resolve(dotted):
    """Import the longest part of a dotted name that is a module, and look up the rest."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        return found
    return None


def find(node, names):
    """Find what a name or a dotted name of a block of code stands for; None for what is not imported from zhichun."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    owner = find(node.value, names) if isinstance(node, ast.Attribute) else None
    return getattr(owner, node.attr) if inspect.isclass(owner) else None

"""The documentation as a site: Sphinx reads these pages; commands, settings and names are read off the code."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "src"))

import zhichun  # noqa: E402
from zhichun.cli import app as command_line  # noqa: E402
from zhichun.fit.recipe import AnyRecipe, PretrainingRecipe, describe, load_recipe  # noqa: E402

project, author, release = "zhichun", "the authors of zhichun", zhichun.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["*.py"]
html_theme = "furo"
html_title = f"zhichun {release}"
html_show_sphinx = html_copy_source = False
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
# The first word of each line of a shell session is highlighted as well as it can be; tables of output are not code.
suppress_warnings = ["misc.highlighting_failure"]


def commands() -> Iterator[str]:
    """Write each command with its arguments and options, as `--help` shows them."""
    yield "# Commands\n\nEvery command also explains itself: `zhichun COMMAND --help`.\n"
    group = typer.main.get_command(command_line)
    for name, command in sorted(group.commands.items()):  # type: ignore[attr-defined]
        yield f"## zhichun {name}\n\n{(command.help or '').strip()}\n"
        yield "| argument or option | default | meaning |\n| --- | --- | --- |"
        for parameter in command.params:
            is_option = parameter.param_type_name == "option"
            said = ", ".join(f"`{word}`" for word in parameter.opts) if is_option else f"`{parameter.name}`"
            default = parameter.default if isinstance(parameter.default, str | int | float | Path) else ""
            meaning = " ".join((getattr(parameter, "help", "") or "").split()).replace("|", "\\|")
            yield f"| {said} | {default if default is not False else ''} | {meaning} |"
        yield ""


def settings() -> Iterator[str]:
    """Write each setting of training and of pre-training, with the value of the first recipe."""
    yield "# Settings\n\n`--set KEY=VALUE` changes any of these; `zhichun recipe NAME` shows the values of a recipe.\n"
    for title, name in (("Training", "kdd2022:task2"), ("Pre-training", "kdd2022:pretrain")):
        yield f"## {title}\n\nValues of the recipe `{name}`.\n\n| setting | value | meaning |\n| --- | --- | --- |"
        kind = PretrainingRecipe if title == "Pre-training" else AnyRecipe
        for setting, value, meaning in describe(load_recipe(name, kind)):
            yield f"| `{setting}` | `{value}` | {meaning.replace('|', chr(92) + '|').replace('``', '`')} |"
        yield ""


def names() -> Iterator[str]:
    """Write the public names of the package."""
    yield "# Python\n\nThe public names of `zhichun`; each is imported when it is first used.\n"
    for name in zhichun.__all__:
        value = getattr(zhichun, name)
        kind = "autoclass" if isinstance(value, type) else "autofunction"
        members = "\n   :members:" if kind == "autoclass" and not issubclass(value, Exception) else ""
        yield f"## {name}\n\n```{{eval-rst}}\n.. {kind}:: {value.__module__}.{value.__qualname__}{members}\n```\n"


def generate(_: Any) -> None:
    """Write the reference; a page that has not changed keeps its time, so that it is not built again."""
    for page, lines in (("commands", commands()), ("settings", settings()), ("python", names())):
        path, text = HERE / "reference" / f"{page}.md", "\n".join(lines) + "\n"
        path.parent.mkdir(exist_ok=True)
        if not path.is_file() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")


def keep_links_within(_: Any, name: str, source: list[str]) -> None:
    """Name files of the repository that are not pages of the site instead of linking to them."""
    up = "../" * (name.count("/") + 1)
    source[0] = re.sub(rf"\[([^\]]*)\]\({re.escape(up)}([^)#]+)[^)]*\)", r"\1 (`\2`)", source[0])


def setup(app: Any) -> None:
    """Connect both to Sphinx's events."""
    app.connect("builder-inited", generate)
    app.connect("source-read", keep_links_within)

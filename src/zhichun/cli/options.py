"""What the commands share: how a function becomes a command, common options, and how a line is printed."""

import copy
import inspect
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final, TypeVar

import typer
from rich.console import Console
from typer.models import ParameterInfo

import zhichun
from zhichun.core.settings import parameter_docs
from zhichun.core.storage import local

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="From a product catalogue and judged pairs to a trained, measured and served relevance model.",
)
stdout = Console()
F = TypeVar("F", bound=Callable[..., None])

# What parameters mean wherever the docstring of a command does not say otherwise.
COMMON: Final = {
    "run": "Run folder of `zhichun train`, or a folder of `zhichun export`, `zhichun ensemble` or `zhichun stack`; "
    "or a name on the hub, USER/NAME.",
    "data": "Dataset folder of `zhichun prepare`.",
    "out": "Run folder to make.",
    "resume": "Continue the run that is there.",
    "settings": "KEY=VALUE of the recipe, such as train.epochs=3; `zhichun recipe NAME` lists the keys.",
    "overwrite": "Replace what is there.",
    "engine": (
        "Engine that computes the scores. For a run `torch` or `torch-bf16`; for an export `onnx`, `onnx-int8`, "
        "`openvino`, `openvino-bf16` or `openvino-int8`, or `measure`, which tries them. `auto` is fp32 for a run, "
        "bf16 on a GPU with hardware bf16, and for an export the fastest safe one for this CPU."
    ),
    "columns": (
        "Own column names, `query=search_term,title=name`: query, product_id, locale, title, description, bullets, "
        "brand, color."
    ),
    "on_bad_rows": "Products of the catalogue that cannot be used: `fail`, or `drop` them.",
    "locale": "Locale of rows without one.",
}
# Parameters that take models, which may be on the hub.
MODELS: Final = ("run", "runs", "a", "b")
SetOption = Annotated[list[str] | None, typer.Option("--set")]
AtLeast1 = Annotated[int, typer.Option(min=1)]


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"zhichun {zhichun.__version__}")
        raise typer.Exit


VersionOption = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
]


@app.callback()
def _of_no_command(*, version: VersionOption = False) -> None:
    """Take the options that belong to no command."""


def command(function: F) -> F:
    """Make a command of a function: its positional parameters are arguments, those by keyword alone are options.

    What they mean is read off its docstring, in numpy's style, and off `COMMON`.
    """
    words = COMMON | parameter_docs(function.__doc__ or "")
    hints = typing.get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        kind, *given = typing.get_args(hints[name]) if hasattr(hints[name], "__metadata__") else (hints[name],)
        is_option = parameter.kind is parameter.KEYWORD_ONLY
        names = (f"--{name.replace('_', '-')}",) if kind is bool else ()  # without its opposite, --no-…
        info: ParameterInfo = copy.copy(given[0]) if given else typer.Option(*names) if is_option else typer.Argument()
        info.help = words[name]
        if name in MODELS:
            info.callback = _local
        info.show_default = parameter.default not in (parameter.empty, None, "", False)
        function.__annotations__[name] = Annotated[kind, info]
    app.command(help=inspect.cleandoc(function.__doc__ or "").partition("\n\nParameters\n")[0])(function)
    return function


def _local(value: Path | list[Path] | None) -> Path | list[Path] | None:
    return [local(each) for each in value] if isinstance(value, list) else value and local(value)


def mapping(text: str, option: str) -> dict[str, str]:
    """Read an option of the form ``name=value,name=value``."""
    pairs = [item.partition("=") for item in text.split(",") if item.strip()]
    if any(not equals for _, equals, _ in pairs):
        raise typer.BadParameter(f"{text!r} is not of the form name=value,name=value", param_hint=option)
    named = {name.strip(): value.strip() for name, _, value in pairs}
    if len(named) < len(pairs):
        raise typer.BadParameter(f"{text!r} names something twice", param_hint=option)
    return named


def names_of(text: str) -> list[str]:
    """Read an option of the form ``name,name``."""
    return [name.strip() for name in text.split(",") if name.strip()]


def say(line: str) -> None:
    """Print a line as it is."""
    stdout.print(line, markup=False, highlight=False, soft_wrap=True)

"""What the commands share: the application, common options, and how a line is printed."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="From a product catalogue and judged pairs to a trained, measured and served relevance model.",
)
stdout = Console()


def option(text: str, *names: str, **more: Any) -> Any:
    """Make an option without a default to show; `typer.Option` shows one."""
    return typer.Option(*names, **{"help": text, "show_default": False, **more})


def argument(text: str, **more: Any) -> Any:
    """Make an argument without a default."""
    return typer.Argument(**{"help": text, "show_default": False, **more})


RunArgument = Annotated[Path, argument("Run folder of `zhichun train`.")]
ModelArgument = Annotated[
    Path, argument("Run folder of `zhichun train`, or a folder of `zhichun export` or `zhichun ensemble`.")
]
DataOption = Annotated[Path, option("Dataset folder of `zhichun prepare`.", "--data")]
RunOutOption = Annotated[Path, option("Run folder to make.", "--out")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Continue the run that is there.")]
SetOption = Annotated[
    list[str] | None,
    option("KEY=VALUE of the recipe, such as train.epochs=3; `zhichun recipe NAME` lists the keys.", "--set"),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
EngineOption = Annotated[
    str,
    typer.Option(
        help="Engine that computes the scores. For a run `torch` or `torch-bf16`; for an export `onnx`, `onnx-int8`, "
        "`openvino`, `openvino-bf16` or `openvino-int8`, or `measure`, which tries them. `auto` is fp32 for a run, "
        "bf16 on a GPU with hardware bf16, and for an export the fastest safe one for this CPU."
    ),
]
BadRowsOption = Annotated[
    Literal["fail", "drop"], typer.Option(help="Products of the catalogue that cannot be used: `fail`, or `drop` them.")
]
LocaleOption = Annotated[str, typer.Option(help="Locale of rows without one.")]


def mapping(text: str, option: str) -> dict[str, str]:
    """Read an option of the form ``name=value,name=value``."""
    pairs = [item.partition("=") for item in text.split(",") if item.strip()]
    if any(not equals for _, equals, _ in pairs):
        raise typer.BadParameter(f"{text!r} is not of the form name=value,name=value", param_hint=option)
    named = {name.strip(): value.strip() for name, _, value in pairs}
    if len(named) < len(pairs):
        raise typer.BadParameter(f"{text!r} names something twice", param_hint=option)
    return named


def say(line: str) -> None:
    """Print a line as it is."""
    stdout.print(line, markup=False, highlight=False, soft_wrap=True)

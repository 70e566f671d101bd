"""The command that puts models together: ensemble; and how it and `evaluate` show what they gain."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Table

from zhichun.cli.options import OverwriteOption, app, argument, option, say, stdout

TITLES = {"ndcg": "nDCG", "micro_f1": "micro-F1"}


@app.command()
def ensemble(
    runs: Annotated[
        list[Path],
        argument(
            "Run folders, exports, or folders of the runs of all folds (`zhichun train --folds`), each of which "
            "weighs as one."
        ),
    ],
    out: Annotated[Path, option("Ensemble folder to make.")],
    weights: Annotated[
        Literal["equal", "fitted"],
        typer.Option(help="`equal`, or `fitted` to the pairs of --data that all members held out."),
    ] = "equal",
    data: Annotated[Path | None, option("Dataset folder: measures what the ensemble gains on held-out pairs.")] = None,
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy the models into the folder, in place of referring to them.")
    ] = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Put trained models together; `evaluate`, `score` and `rank` take the folder in place of a run.

    Classifiers are averaged by their probabilities, regressors by their gains, and both together by expected gain and
    gain, as the paper does for task 1.
    """
    from zhichun.score.make_ensemble import make_ensemble

    made = make_ensemble(runs, out, weights=weights, data=data, copy=copy, overwrite=overwrite)
    for member in made.members:
        say(f"  {member.weight:.3f}  {member.task}  {member.name}")
    if made.gain is not None:
        stdout.print(_gain_table(made.gain))
        _say_differences(made.gain)
        for name in made.gain.get("left_out", ()):
            say(f"  left out, as it would weigh nothing: {name}")
    say(f"{out}: {len(made.members)} models. Next: zhichun evaluate {out} --data {data or 'DATA'}")


def show_members(measured: dict[str, Any]) -> None:
    """Show how an ensemble stands beside its members, as `zhichun.measure.evaluate.evaluate` gives it."""
    found = measured["ensemble"]
    table = Table(title=f"members on {measured['split']}")
    metrics = [name for name in TITLES if any(name in member for member in found["members"])]
    _columns(table, "member", "weight", *(TITLES[name] for name in metrics), "seconds")
    for member in found["members"]:
        cells = (_cell(member, name) for name in metrics)
        table.add_row(escape(member["name"]), f"{member['weight']:.3f}", *cells, f"{member['seconds']:.1f}")
    seconds = sum(member["seconds"] for member in found["members"])
    table.add_row("together", "1.000", *(_cell(measured, name) for name in metrics), f"{seconds:.1f}")
    stdout.print(table)
    _say_differences(found)


def _gain_table(gain: dict[str, Any]) -> Table:
    table = Table(title=f"{gain['pairs']:,} pairs of {gain['queries']:,} queries that all held out")
    rows = {**gain["members"], "together, equal weights": gain["equal"]}
    if "fitted" in gain:
        rows["together, fitted to the other half"] = gain["fitted"]
    metrics = [name for name in TITLES if any(name in figures for figures in rows.values())]
    _columns(table, "member", *(TITLES[name] for name in metrics))
    for name, figures in rows.items():
        table.add_row(escape(name), *(_cell(figures, metric) for metric in metrics))
    return table


def _columns(table: Table, *headings: str) -> None:
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place else "left", no_wrap=place > 0, overflow="fold")


def _cell(figures: dict[str, Any], name: str) -> str:
    return f"{figures[name]:.4f}" if name in figures else ""


def _say_differences(found: dict[str, Any]) -> None:
    for name, gap in found.get("fitted_against_equal", {}).items():
        say(f"fitted minus equal weights, {_difference(name, gap)}")
    for name, gap in found["against_best"].items():
        say(f"together minus the best member ({gap['member']}), {_difference(name, gap)}")


def _difference(name: str, gap: dict[str, float]) -> str:
    return f"{TITLES[name]}: {gap['mean']:+.4f} (95 %: {gap['low']:+.4f} to {gap['high']:+.4f}, p = {gap['p']:.3f})"

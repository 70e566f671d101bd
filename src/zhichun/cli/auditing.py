"""The command that looks for wrong judgements: audit."""

from pathlib import Path
from typing import Annotated

import typer

from zhichun.cli.options import DataOption, app, argument, option, say


@app.command()
def audit(
    data: DataOption,
    out: Annotated[Path, option("Audit folder to write.")],
    recipe: Annotated[
        str | None,
        argument("What to train for each fold, as for `zhichun train`; leave it out when the runs are there."),
    ] = None,
    runs: Annotated[
        Path | None, option("Runs of all folds, made with `zhichun train --folds`.", show_default="OUT/folds")
    ] = None,
    accept: Annotated[Path | None, option("Decisions of a person, from the page, `to_judge.csv` or Quepid.")] = None,
    drop: Annotated[float | None, option("List the most doubtful share of the training pairs to drop, 0.04.")] = None,
    page_pairs: Annotated[int, typer.Option(help="Judgements on the page at most; the tables have all.")] = 5000,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE of the recipe, such as train.epochs=3.")
    ] = None,
) -> None:
    """Find judgements that are probably wrong, by confident learning, for a person to decide.

    Trains a model for each fold (`OUT/folds`; called again after a kill it goes on), and compares what it says of the
    pairs that it did not train on with their labels. Writes tables, a page to decide on, and lists for `zhichun
    prepare --drop-issues` and `--relabel`. Nothing is changed in the dataset. Needs `pip install 'zhichun[audit]'`.
    """
    from zhichun.judgements.audit import audit as find_issues

    if recipe is None:
        if assignments:
            raise typer.BadParameter("has no effect without a RECIPE", param_hint="--set")
        to_train = None
    else:
        from zhichun.fit.recipe import load_recipe

        to_train = load_recipe(recipe).with_settings(assignments or [])
    found = find_issues(data, out, recipe=to_train, runs=runs, accept=accept, drop=drop, page_pairs=page_pairs)
    say(
        f"{out}: {found['issues']:,} of {found['pairs']:,} judgements in doubt ({found['share']:.1%}); "
        f"{found['estimated_wrong']:.1%} estimated to be wrong"
    )
    for kind in ("label", "locale"):
        shares = (f"{name} {counts['share']:.1%}" for name, counts in found[f"by_{kind}"].items())
        say(f"  in doubt by {kind}: " + ", ".join(shares))
    options = ""
    if "drop" in found:
        dropped = found["drop"]
        share = f"{dropped['share_listed']:.1%} of the training pairs"
        decided = f"{dropped['by_decision']:,} of them decided"
        say(f"  {out / 'drop.csv'}: {dropped['listed']:,} pairs to drop ({share}), {decided}")
        if dropped["asked"] > found["issues"]:
            say(f"  only issues are dropped: {found['issues']:,}, and not {dropped['asked']:,}")
        options += f" --drop-issues {out / 'drop.csv'}"
    if "relabel" in found:
        say(f"  {out / 'relabel.csv'}: {found['relabel']:,} pairs to relabel")
        if found["of_validation_queries"]:
            say(f"  {found['of_validation_queries']:,} of them are of validation queries, which prepare passes over")
        options += f" --relabel {out / 'relabel.csv'}"
    say(f"Next: zhichun prepare SOURCE NEW_DATA{options}" if options else f"Next: open {out / 'index.html'} and decide")

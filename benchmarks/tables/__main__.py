"""Runs a table of the paper: each row with several seeds, compared, and set beside the paper's figures.

Usage: ``python benchmarks/tables table4 --data DATA --out OUT``. ``table.json`` and ``table.md`` are written anew after
each run; called again, it goes on where it was and runs nothing twice. Without arguments the tables are listed.
"""

import argparse
import importlib
import sys
from pathlib import Path

from paper_tables import TABLES
from table_figures import make_result
from table_page import markdown
from table_runs import Plan

from zhichun.core.errors import UserError
from zhichun.core.files import write_json, write_text
from zhichun.fit.recipe import PretrainingRecipe, load_recipe


def run_table(plan: Plan, *, only: list[str] | None = None, keep_models: bool = False) -> None:
    """Do the runs that are not done yet, and write the table after each."""
    if any(row.dropping is not None for row in plan.table.rows):
        importlib.import_module("cleanlab")  # or it would be missed only after the first rows
    unknown = set(only or ()) - {row.name for row in plan.table.rows}
    if unknown:
        names = ", ".join(row.name for row in plan.table.rows)
        raise UserError(f"there is no row {unknown.pop()!r}.", remedy=f"Possible: {names}")
    for run in plan.runs:
        run.check_recorded()
    plan.out.mkdir(parents=True, exist_ok=True)
    waiting = [run for run in plan.runs if not run.is_finished and (not only or run.row.name in only)]
    for number, run in enumerate(waiting, start=1):
        print(f"run {number} of {len(waiting)}: {run.row.name}, seed {run.seed}", file=sys.stderr)
        run.finish(keep_models=keep_models)
        write_table(plan)
    write_table(plan)


def write_table(plan: Plan) -> None:
    """Write ``table.json`` and ``table.md``."""
    result = make_result(plan)
    write_json(plan.out / "table.json", result)
    write_text(plan.out / "table.md", markdown(result))


def main(arguments: list[str] | None = None) -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(prog="python benchmarks/tables", description=__doc__)
    parser.add_argument("table", choices=TABLES, nargs="?", help="without it the tables are listed")
    parser.add_argument("--data", type=Path, help="dataset folder; rows are compared on its test split")
    parser.add_argument("--out", type=Path, help="folder for the table and its runs")
    parser.add_argument("--recipe", default="tiny", help="recipe that all rows change (default: tiny)")
    parser.add_argument("--pretraining", default="tiny:pretrain", help="recipe of the pre-training of rows")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each row (default: 3)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for all rows")
    parser.add_argument("--set-pretraining", action="append", default=[], metavar="KEY=VALUE", help="for pre-training")
    parser.add_argument("--row", action="append", help="run this row only; any number of times")
    parser.add_argument("--keep-models", action="store_true", help="keep the weights of each run")
    given = parser.parse_args(arguments)
    if given.table is None:
        for name, function in TABLES.items():
            print(f"{name}  {function.__doc__}")
        return
    if given.data is None or given.out is None or given.seeds < 1:
        parser.error("give --data, --out, and at least one seed")
    try:
        plan = Plan(
            table=TABLES[given.table](),
            base=load_recipe(given.recipe),
            pretraining=load_recipe(given.pretraining, PretrainingRecipe),
            data=given.data,
            out=given.out.resolve(),  # runs record the path of the encoder that they start from
            settings=tuple(given.set),
            pretraining_settings=tuple(given.set_pretraining),
            seeds=given.seeds,
        )
        run_table(plan, only=given.row, keep_models=given.keep_models)
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

"""The command line: parse, call one function, show what it gives.

Exit status 0; 1 for a `UserError` (one message, no trace); 2 for wrong usage.
"""

import errno
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape

from zhichun.console import Bar, Stages, stderr
from zhichun.errors import UserError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="From a product catalogue and judged pairs to a trained, measured and served relevance model.",
)
stdout = Console()

RunArgument = Annotated[Path, typer.Argument(help="Run folder of `zhichun train`.", show_default=False)]
DataOption = Annotated[Path, typer.Option("--data", help="Dataset folder of `zhichun prepare`.", show_default=False)]
ColumnsOption = Annotated[
    str,
    typer.Option(
        help="Own column names, `query=search_term,label=grade`: query, product_id, locale, label, title, description, "
        "bullets, brand, color, split, weight."
    ),
]
LocaleOption = Annotated[str, typer.Option(help="Locale of rows without one.")]


@app.command()
def sample(
    folder: Annotated[Path, typer.Argument(help="Folder to write.", show_default=False)],
    products: Annotated[int, typer.Option(help="Products in the catalogue.")] = 2000,
    queries: Annotated[int, typer.Option(help="Judged queries.")] = 600,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    text: Annotated[str, typer.Option(help="Length of the texts: `short`, or `esci` as in the real set.")] = "short",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a shop that is there.")] = False,
) -> None:
    """Make a sample shop: a made-up catalogue with judged queries in English, Spanish and Japanese.

    In the official layout of the Shopping Queries Dataset, with the true labels beside it.
    """
    from zhichun.data.sample_shop import write_sample_shop

    if text not in ("short", "esci"):
        raise UserError(f"--text {text!r} is unknown.", remedy="Give short or esci.")
    length: Literal["short", "esci"] = "esci" if text == "esci" else "short"
    with Bar("sample", "products") as bar:
        bar.start(0, products)
        done = 0

        def progress(now: int, total: int) -> None:
            nonlocal done
            bar.advance(now - done, steps=now - done)
            done = now

        made = write_sample_shop(
            folder, products=products, queries=queries, seed=seed, text=length, overwrite=overwrite, progress=progress
        )
    shares = " ".join(f"{label} {made[f'share_{label}']:.1%}" for label in "ESCI")
    stdout.print(f"{folder}: {made['pairs']:,} pairs of {made['queries']:,} queries, {made['products']:,} products")
    stdout.print(f"labels {shares}; {made['wrong_labels']:,} wrong ones in the training split (true_labels.parquet)")


@app.command()
def prepare(
    places: Annotated[
        list[Path],
        typer.Argument(
            metavar="[SOURCE] DIR",
            help="The folder in the official layout (not with --examples and --products), and the folder to write.",
            show_default=False,
        ),
    ],
    examples: Annotated[
        Path | None, typer.Option(help="Own judgements: CSV, TSV, JSON Lines, Parquet, Quepid CSV, TREC qrels.")
    ] = None,
    products: Annotated[Path | None, typer.Option(help="Own catalogue: CSV, TSV, JSON Lines or Parquet.")] = None,
    topics: Annotated[Path | None, typer.Option(help="Query texts of TREC qrels: id, tab, query.")] = None,
    columns: ColumnsOption = "",
    labels: Annotated[str, typer.Option(help="Own grades, `3=E,2=S,1=C,0=I`.")] = "",
    locale: LocaleOption = "us",
    folds: Annotated[int, typer.Option(help="Folds by query.")] = 5,
    test_share: Annotated[float, typer.Option(help="Share of queries for testing where there is no split.")] = 0.1,
    on_bad_rows: Annotated[str, typer.Option(help="`fail`, or `drop` them.")] = "fail",
    min_count_trigram: Annotated[
        int, typer.Option(help="A trigram seen so often in the catalogue gets a vector; those of queries always do.")
    ] = 15,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a dataset folder that is there.")] = False,
) -> None:
    """Check and clean a catalogue and its judgements, and write the dataset folder that training reads.

    Rows that cannot be used are counted by reason and listed with file and row in `rejected.parquet`.
    """
    from zhichun.data import prepare as steps

    if len(places) > 2:
        raise typer.BadParameter("give SOURCE and DIR, or DIR alone with --examples and --products")
    bad_rows: Literal["fail", "drop"] = "drop" if on_bad_rows == "drop" else "fail"
    if on_bad_rows not in ("fail", "drop"):
        raise typer.BadParameter("fail or drop", param_hint="--on-bad-rows")
    stages = Stages()
    manifest = steps.prepare(
        places[0] if len(places) == 2 else None,
        places[-1],
        examples=examples,
        products=products,
        topics=topics,
        columns=_mapping(columns, "--columns"),
        labels=_mapping(labels, "--labels"),
        locale=locale,
        on_bad_rows=bad_rows,
        folds=folds,
        test_share=test_share,
        min_count_trigram=min_count_trigram,
        overwrite=overwrite,
        progress=stages,
    )
    stages.stop()
    made = manifest["examples"]
    stdout.print(
        f"{places[-1]}: {made['kept']:,} of {made['read']:,} pairs, {made['queries']:,} queries, "
        f"{manifest['products']['kept']:,} products"
    )
    for kind in ("by_split", "by_locale", "by_label"):
        stdout.print("  " + kind[3:] + ": " + ", ".join(f"{name} {count:,}" for name, count in made[kind].items()))
    for part in ("examples", "products"):
        for reason, count in manifest[part]["dropped"].items():
            stdout.print(f"  dropped {part}: {count:,} × {reason} (see rejected.parquet)")


@app.command()
def train(
    recipe: Annotated[
        str,
        typer.Argument(
            help="`tiny`, `kdd2022:task2`, `my_file.py:function` or a recorded `recipe.json`.", show_default=False
        ),
    ],
    data: DataOption,
    out: Annotated[Path, typer.Option(help="Run folder to make.", show_default=False)],
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that is there.")] = False,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE, such as train.epochs=3; `zhichun recipe NAME` lists the keys."),
    ] = None,
) -> None:
    """Train a recipe on a dataset folder.

    On several devices: `accelerate launch -m zhichun train …`. A run that was killed goes on with `--resume` and ends
    with the same weights, bit for bit.
    """
    from zhichun.recipe import load_recipe
    from zhichun.training import train as run_training

    run = run_training(load_recipe(recipe).with_settings(assignments or []), data, out, resume=resume)
    stdout.print(f"{run.path}: trained. Next: zhichun evaluate {run.path} --data {data}")


@app.command()
def recipe(
    name: Annotated[str, typer.Argument(help="As for `zhichun train`.", show_default=False)],
    assignments: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE.")] = None,
) -> None:
    """Show every setting of a recipe, with its value and what it means."""
    from rich.table import Table

    from zhichun.recipe import describe, load_recipe

    table = Table("setting", "value", "meaning", show_lines=False)
    for row in describe(load_recipe(name).with_settings(assignments or [])):
        table.add_row(*map(escape, row))
    stdout.print(table)


@app.command()
def evaluate(
    run: RunArgument,
    data: DataOption,
    split: Annotated[str, typer.Option(help="`test`, `train` or `all`.")] = "test",
    out: Annotated[Path | None, typer.Option(help="Where metrics.json goes; the run folder if not given.")] = None,
) -> None:
    """Measure a run on judged pairs, overall and by locale, beside simple baselines; write `metrics.json`."""
    from zhichun.evaluation import evaluate as measure_run
    from zhichun.tables import confusion_table, figures_table
    from zhichun.tasks import TASKS

    measured = measure_run(run, data, split=split, out=out)
    stdout.print(figures_table(measured))
    if "confusion" in measured:
        stdout.print(confusion_table(measured, TASKS[measured["task"]].classes))
    stdout.print(f"{(out or run) / 'metrics.json'}")


@app.command()
def score(
    run: RunArgument,
    pairs: Annotated[Path, typer.Argument(help="Pairs to score: .parquet, .csv or .tsv.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="File to write: .parquet, .csv or .tsv.", show_default=False)],
    products: Annotated[
        Path | None, typer.Option(help="Catalogue to look products up in by product_id (file or dataset folder).")
    ] = None,
    columns: ColumnsOption = "",
    prefix: Annotated[str, typer.Option(help="Put before the names of the new columns.")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
) -> None:
    """Score a file of query-product pairs: the same rows come out with probabilities, label and gain.

    The file is read as a stream. A run that was killed goes on where it was when it is called again.
    """
    from zhichun.data.read_catalogue import read_catalogue
    from zhichun.scoring.scorer import Scorer, model_folder
    from zhichun.scoring.scoring_job import ScoringJob, fingerprint

    if out.exists() and not overwrite:
        raise UserError("the file is there already.", file=out, remedy="Choose another name, or give --overwrite.")
    job = ScoringJob(
        scorer=Scorer.load(run),
        pairs=pairs,
        out=out,
        model_fingerprint=fingerprint(model_folder(run)),
        products=None if products is None else read_catalogue(products),
        columns=_mapping(columns, "--columns"),
        prefix=prefix,
    )
    with Bar("score", "pairs") as bar:
        bar.start(0, job.total())
        rows = job.run(lambda done: bar.advance(done, steps=done))
    stdout.print(f"{out}: {rows:,} pairs scored")


@app.command()
def rank(
    run: RunArgument,
    query: Annotated[str, typer.Argument(help="The query.", show_default=False)],
    products: Annotated[
        Path, typer.Option(help="Products to rank: a table, a dataset folder or a folder in the official layout.")
    ],
    locale: Annotated[str, typer.Option(help="Locale of the query; products of others are left out.")] = "us",
    top: Annotated[int, typer.Option(help="Products to show.")] = 10,
    columns: ColumnsOption = "",
) -> None:
    """Rank products for one query and show the best with their label, probabilities and score."""
    from zhichun.data.read_catalogue import read_catalogue
    from zhichun.ranking import rank as rank_products
    from zhichun.scoring.scorer import Scorer
    from zhichun.tables import ranking_table

    scorer = Scorer.load(run)
    catalogue = read_catalogue(products, locale=locale, columns=_mapping(columns, "--columns"))
    ranked = rank_products(scorer, query, catalogue, locale)
    stdout.print(ranking_table(f"{query} ({locale}, {len(ranked):,} products)", ranked[:top], scorer.task.classes))


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Folder for all that it makes.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Seed of the shop and of the training.")] = 0,
) -> None:
    """Go through the whole way once, on a sample shop: sample, prepare, train, evaluate, rank.

    Called again it uses what is there; delete the folder to start anew.
    """
    from zhichun.demo import run_demo

    run_demo(folder, seed, stdout)


def _mapping(text: str, option: str) -> dict[str, str]:
    pairs = [item.partition("=") for item in text.split(",") if item.strip()]
    if any(not equals for _, equals, _ in pairs):
        raise typer.BadParameter(f"{text!r} is not of the form name=value,name=value", param_hint=option)
    return {name.strip(): value.strip() for name, _, value in pairs}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with its exit status."""
    try:
        app(args=None if arguments is None else list(arguments))
    except UserError as error:
        _fail(str(error))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES):
            raise
        _fail(f"{error}\nNothing half-written is left. Free some space, or write elsewhere, and call it again.")
    except KeyboardInterrupt:
        _fail("interrupted; call it again to go on (zhichun train with --resume)", status=130)


def _fail(message: str, status: int = 1) -> None:
    stderr.print(f"[bold red]error:[/] {escape(message)}", highlight=False, soft_wrap=True)
    sys.exit(status)

"""Commands that train and measure: train, pretrain, pool, recipe, evaluate, calibrate, audit."""

import os
from pathlib import Path

import typer

from zhichun.cli.options import AtLeast1, SetOption, command, mapping, say, stdout


@command
def train(
    recipe: str,
    *,
    data: Path,
    out: Path,
    resume: bool = False,
    folds: int | None = None,
    nested: bool = False,
    settings: SetOption = None,
) -> None:
    """Train a recipe on a dataset folder.

    On several devices or nodes: `accelerate launch -m zhichun train …`, or `torchrun`. A run that was killed continues
    with `--resume` and ends with the same weights, bit for bit.

    Parameters
    ----------
    recipe
        `tiny`, `kdd2022:task2`, `my_file.py:function`, `my_file.yaml` or a recorded `recipe.json`.
    folds
        Number of folds of the dataset: train one run without each of them, OUT/fold-0 …
    nested
        With --folds: also train one without each two of them, by which `zhichun stack` is measured.
    """
    from zhichun.fit.recipe import load_recipe

    to_train = load_recipe(recipe).with_settings(settings or [])
    if folds is not None:
        from zhichun.fit.folds import train_folds

        train_folds(to_train, data, out, folds=folds, nested=nested, resume=resume)
        then = f"stack {out} --data {data} --out STACK" if nested else f"audit --data {data} --runs {out} --out AUDIT"
        if to_train.task != "esci":  # which both need
            then = f"ensemble {out} --out ENSEMBLE"
        _say_once(f"{out}: {folds} runs trained. Next: zhichun {then}")
        return
    if nested:
        raise typer.BadParameter("has no effect without --folds", param_hint="--nested")
    from zhichun.fit.train import train as run_training

    run = run_training(to_train, data, out, resume=resume)
    _say_once(f"{run.path}: trained. Next: zhichun evaluate {run.path} --data {data}")


@command
def pretrain(recipe: str, *, data: Path, out: Path, resume: bool = False, settings: SetOption = None) -> None:
    """Pre-train an encoder on the texts of the catalogue (domain adaptation), for `zhichun train` to start from.

    The texts of all products are read and no label is. On several devices, and after a kill, as `zhichun train`.

    Parameters
    ----------
    recipe
        `tiny:pretrain`, `kdd2022:pretrain`, `my_file.py:function` or a recorded `recipe.json`.
    """
    from zhichun.fit.pretrain import pretrain as run_pretraining
    from zhichun.fit.recipe import PretrainingRecipe, load_recipe

    found = load_recipe(recipe, PretrainingRecipe).with_settings(settings or [])
    run = run_pretraining(found, data, out, resume=resume)
    then = f"zhichun train RECIPE --data {data} --out RUN --set model.encoder={run.path}"
    _say_once(f"{run.encoder}: pre-trained. Next: {then}")


def _say_once(line: str) -> None:
    if os.environ.get("RANK", "0") == "0":
        say(line)


@command
def pool(
    run: Path,
    *,
    data: Path,
    queries: Path,
    out: Path,
    per_query: AtLeast1 = 20,
    at_random: float = 0.25,
    weight: float = 0.5,
    columns: str = "",
    locale: str = "us",
    engine: str = "auto",
    seed: int = 0,
) -> None:
    """Make training pairs of real queries that nobody judged, labelled by a teacher, for `train.pool`.

    Queries of the test split and of what the teacher held out are left out. After a kill, the same command resumes.

    Parameters
    ----------
    run
        The teacher: a run of four classes, or an ensemble of such runs.
    queries
        Real queries: a table with a column query, and locale where there are several.
    out
        Table to write: Parquet.
    per_query
        Candidates of each query.
    at_random
        Share of them that is drawn at random; the others are BM25's first.
    weight
        Of a pair in the student's loss; judged ones have 1.
    columns
        Own column names of the queries: query, locale.
    seed
        Seed of the draws.
    """
    from zhichun.fit.pool import make_pool

    made = make_pool(
        run,
        data,
        queries,
        out,
        per_query=per_query,
        at_random=at_random,
        weight=weight,
        columns=mapping(columns, "--columns"),
        locale=locale,
        engine=engine,
        seed=seed,
    )
    for reason, count in made["left_out"].items():
        say(f"  left out: {count:,} queries {reason}")
    say(f"{out}: {made['pairs']:,} pairs of {made['queries']:,} queries. Next: {made['next']}")


@command
def recipe(name: str, *, settings: SetOption = None) -> None:
    """Show every setting of a recipe, with its value and what it means.

    Parameters
    ----------
    name
        As for `zhichun train` and `zhichun pretrain`.
    """
    from zhichun.cli.tables import settings_table
    from zhichun.fit.recipe import AnyRecipe, describe, load_recipe

    stdout.print(settings_table(describe(load_recipe(name, AnyRecipe).with_settings(settings or []))))


@command
def evaluate(
    run: Path,
    *,
    data: Path,
    split: str = "test",
    version: str | None = None,
    out: Path | None = None,
    engine: str = "auto",
    ratings: Path | None = None,
    columns: str = "",
    labels: str = "",
    products: Path | None = None,
    trec: bool = False,
) -> None:
    """Measure a run on judged pairs, overall and by locale, with simple baselines; write `metrics.json`.

    Parameters
    ----------
    split
        `test`, `train` or `all`.
    version
        Pairs of the `small` or `large` version of the dataset, or `all`; default: small for ranking where the dataset
        has it, otherwise all.
    out
        Folder for metrics.json; default: the run folder.
    ratings
        Several people's ratings of these pairs: shows the raters and the ceiling beside the model.
    columns
        Own column names of the ratings, `judge=annotator`: query, product_id, locale, judge, label.
    labels
        Grades of the ratings, `3=E,2=S,1=C,0=I`; `-1=skip` for 'not judged'.
    products
        Index of `zhichun index`, which the states of products are taken from.
    trec
        Write scored.run and judged.qrels too, for the tools of TREC.
    """
    from zhichun.cli.tables import confusion_table, differences, figures_table, members_table, raters_table
    from zhichun.core.tasks import TASKS
    from zhichun.data.dataset import Dataset
    from zhichun.data.readers.ratings import read_ratings
    from zhichun.measure.evaluate import evaluate as measure_run
    from zhichun.metrics.metric import UNRANKED

    rated = None
    if ratings is not None:
        grades, locale = mapping(labels, "--labels"), Dataset.open(data).manifest["options"]["locale"]
        rated = read_ratings(ratings, columns=mapping(columns, "--columns"), labels=grades, locale=locale)
    elif columns or labels:
        raise typer.BadParameter("has no effect without --ratings", param_hint="--columns, --labels")
    measured = measure_run(
        run, data, split=split, version=version, out=out, engine=engine, products=products, trec=trec, ratings=rated
    )
    stdout.print(figures_table(measured))
    if "ndcg" not in measured and measured["task"] != "substitute":
        say(UNRANKED.capitalize())
    if "confusion" in measured:
        stdout.print(confusion_table(measured, TASKS[measured["task"]].classes))
    if "ensemble" in measured:
        stdout.print(members_table(measured))
        for line in differences(measured["ensemble"]):
            say(line)
    if rated is not None:
        beside = measured["raters"]
        title = f"{beside['pairs']:,} pairs that two or more rated, against the majority (raters: of the others)"
        stdout.print(raters_table(title, beside))
    if measured.get("trained_on", 0) != 0:
        count = "it is not known how many" if measured["trained_on"] is None else f"{measured['trained_on']:,}"
        flattering = "Figures are worse on new queries: see --split test, or train with `zhichun train … --folds K`."
        say(f"Warning: {count} of {measured['pairs']:,} pairs were trained on. {flattering}")
    say(f"{(out or run) / 'metrics.json'}")


@command
def calibrate(run: Path, *, precision: float | None = None) -> None:
    """Calibrate a run on the pairs that it held out, so that its probabilities are as often right as they say.

    A temperature, and with 1,000 pairs or more a curve for each class, where these lower the log loss of other queries.
    It is kept in the model folder: scores, exports and servers made from now on have it.

    Parameters
    ----------
    run
        Run folder of `zhichun train`, of a classifier.
    precision
        How often a label that is given shall be right, such as 0.9: pairs that are less sure are given none.
    """
    from zhichun.cli.tables import intervals_table
    from zhichun.fit.calibrate import METRICS
    from zhichun.fit.calibrate import calibrate as fit_calibration

    found = fit_calibration(run, precision=precision)
    title = f"{found['pairs']:,} held-out pairs of {found['queries']:,} queries, each half calibrated by the other"
    rows = {f"{name}, {when}": of for name, both in found["figures"].items() for when, of in both.items()}
    stdout.print(intervals_table(title, rows, {metric.name: metric.title for metric in METRICS}))
    if "labels" in found:
        least = {
            name: "never" if of["least"] is None else f"from {of['least']:.3f}" for name, of in found["labels"].items()
        }
        rows = {f"{name}, {least[name]}": of for name, of in found["labels"].items()}
        titles = {"given": "pairs that have it", "precision": "precision"}
        stdout.print(intervals_table(f"labels that are given, promised at {precision:g}", rows, titles))
    kept = {"none": "none lowers the log loss", "curves": "with a curve for each class"}.get(found["kind"], "alone")
    say(f"temperature {found['temperature']:.3f}, {kept}")


@command
def audit(
    recipe: str | None = None,
    *,
    data: Path,
    out: Path,
    runs: Path | None = None,
    accept: Path | None = None,
    drop: float | None = None,
    page_pairs: int = 5000,
    settings: SetOption = None,
) -> None:
    """Find likely label errors by confident learning, for review.

    Trains a model for each fold (`OUT/folds`; called again after a kill it continues), and compares its predictions for
    the pairs that it did not train on with their labels. Writes tables, a page to decide on, and lists for `zhichun
    prepare --drop-issues` and `--relabel`. Nothing is changed in the dataset. Needs `pip install 'zhichun[audit]'`.

    Parameters
    ----------
    recipe
        Recipe to train for each fold, as for `zhichun train`; leave it out when the runs are there.
    out
        Audit folder to write.
    runs
        Runs of all folds, made with `zhichun train --folds`; default: OUT/folds.
    accept
        A reviewer's decisions, from the page, `to_judge.csv` or Quepid.
    drop
        Share of the training pairs to drop, lowest quality first, such as 0.04.
    page_pairs
        Judgements on the page at most; the tables have all.
    """
    from zhichun.judgements.audit import audit as find_issues

    if recipe is None:
        if settings:
            raise typer.BadParameter("has no effect without a RECIPE", param_hint="--set")
        to_train = None
    else:
        from zhichun.fit.recipe import load_recipe

        to_train = load_recipe(recipe).with_settings(settings or [])
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

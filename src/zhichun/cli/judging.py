"""Commands that weigh judgements and changes: agreement, compare."""

from pathlib import Path
from typing import Annotated

import typer

from zhichun.cli.options import command, mapping, say, stdout

AGREEMENT = {
    "unanimous": "all agree",
    "kappa": "kappa",
    "quadratic_kappa": "quadratic\nkappa",
    "alpha": "alpha",
    "ordinal_alpha": "ordinal\nalpha",
}


@command
def agreement(
    ratings: Path,
    *,
    columns: str = "",
    labels: str = "",
    locale: str = "us",
    out: Path | None = None,
    draws: Annotated[int, typer.Option(min=10)] = 2000,
    seed: int = 0,
) -> None:
    """Measure how well raters agree, and the best figures that their disagreement lets any model reach.

    Kappa and Krippendorff's alpha are corrected for chance: 1 is full agreement, 0 what chance gives. The ceiling is
    that of a model which knows the truth and the raters' noise.

    Parameters
    ----------
    ratings
        Table of ratings: query, product_id, judge, label; a row for each rating.
    columns
        Own column names, `judge=annotator`: query, product_id, locale, judge, label.
    labels
        Grades of the ratings, `3=E,2=S,1=C,0=I`; `-1=skip` for 'not judged'.
    out
        File to write all figures to, as JSON.
    draws
        Draws of the bootstrap over queries.
    seed
        Seed of the draws.
    """
    from zhichun.cli.tables import intervals_table, raters_table
    from zhichun.core.files import write_json
    from zhichun.data.readers.ratings import read_ratings
    from zhichun.judgements.agreement import measure_agreement

    rated = read_ratings(
        ratings, columns=mapping(columns, "--columns"), labels=mapping(labels, "--labels"), locale=locale
    )
    found = measure_agreement(rated, draws=draws, seed=seed)
    title = f"{found['pairs']:,} pairs of {found['queries']:,} queries, {found['ratings']:,} ratings"
    shown = [name for name in AGREEMENT if name in found["all"]]
    parts = {"all": found["all"], **found["by_locale"], **found["between"]}
    stdout.print(intervals_table(title, parts, {name: AGREEMENT[name] for name in shown}))
    by_label = {f"{label} against the rest": of for label, of in found["by_label"].items()}
    titles = {"share": "majority says", "unanimous": AGREEMENT["unanimous"], "kappa": "kappa", "alpha": "alpha"}
    stdout.print(intervals_table("by label", by_label, titles))
    against = {name: of for name, of in found["raters"].items() if of}
    stdout.print(
        raters_table("each rater against the majority of the others", {**against, "ceiling": found["ceiling"]})
    )
    say("The ceiling assumes that raters err independently given the truth, and alike for all queries.")
    if rated.passed_over:
        say(f"{rated.passed_over:,} rows say nothing of their pair, and were passed over.")
    if out is not None:
        write_json(out, found)
        say(f"{out}: all figures")


@command
def compare(
    a: Path,
    b: Path,
    *,
    data: Path,
    gate: list[str] | None = None,
    strict: bool = False,
    out: Path | None = None,
    split: str = "test",
    segments: Path | None = None,
    columns: str = "",
    topics: Path | None = None,
    draws: Annotated[int, typer.Option(min=100)] = 5000,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Compare two systems on judged pairs, overall and by segment, and fail where a gate does.

    A gate fails where the data show, at 95 %, that the difference A - B does not keep it: overall, or in a segment,
    after correction for their number. Exit status 1 then.

    Parameters
    ----------
    a
        What is proposed: a folder of `zhichun train`, `export` or `ensemble`, a file of `zhichun score`, or a ranking
        of any other system: a TREC run file, or a table with query, product_id and score or rank.
    b
        What it is held against, any of these.
    gate
        What A - B has to keep, such as 'ndcg@10>=-0.002'; names of ir_measures are understood (nDCG@10, P@5).
    strict
        Fail where a gate is not shown to hold overall.
    out
        Folder to make: index.html, compare.json, junit.xml.
    split
        `test`, `train` or `all`.
    segments
        Table with query or product_id, whose other columns are segments of your own.
    columns
        Own column names of rankings: query, product_id, locale.
    topics
        Query texts of a run file: id, tab, query.
    draws
        Draws of the bootstrap over queries.
    seed
        Seed of the draws.
    """
    from zhichun.cli.tables import comparison_table
    from zhichun.measure.compare import compare as compare_systems

    found = compare_systems(
        a,
        b,
        data,
        gates=gate or (),
        split=split,
        columns=mapping(columns, "--columns"),
        topics=topics,
        segments=segments,
        out=out,
        overwrite=overwrite,
        draws=draws,
        seed=seed,
    )
    stdout.print(comparison_table(found))
    for name, count in zip((a, b), found["unjudged"], strict=True):
        if count:
            say(f"{name}: {count:,} rows are not judged, and were left out")
    verdicts = [each for each in found["gates"] if each["part"] == "all" or each["verdict"] == "fails"]
    for each in verdicts:
        say(f"{each['verdict']}: {each['gate']}, {each['part']}: A - B {each['difference']:+.4f}, p = {each['p']:.4f}")
    if out is not None:
        say(f"{out / 'index.html'}: figures, segments, and the queries that moved most")
    if any(each["verdict"] == "fails" or (strict and each["verdict"] == "open") for each in verdicts):
        raise typer.Exit(1)

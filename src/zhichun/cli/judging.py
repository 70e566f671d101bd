"""Commands that make judgements and weigh them and changes: judge, agreement, compare."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from zhichun.cli.options import AtLeast1, command, mapping, say, stdout
from zhichun.core.console import Bar, say_aside
from zhichun.core.errors import UserError
from zhichun.core.schema import LABELS

if TYPE_CHECKING:
    from zhichun.judgements.judge import JudgingJob, Plan

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
    more: Annotated[list[Path] | None, typer.Argument(metavar="[MORE]...")] = None,
    *,
    of: list[str] | None = None,
    columns: str = "",
    labels: str = "",
    locale: str = "us",
    products: Path | None = None,
    out: Path | None = None,
    overwrite: bool = False,
    draws: Annotated[int, typer.Option(min=10)] = 2000,
    seed: int = 0,
) -> None:
    """Measure how well raters agree, how an LLM or a model judges beside them, and the best any model can reach.

    Kappa and Krippendorff's alpha are corrected for chance: 1 is full agreement, 0 what chance gives. The ceiling is
    that of a model which knows the truth and the raters' noise.

    Parameters
    ----------
    ratings
        Table of ratings: query, product_id, judge, label; a row for each rating.
    more
        Tables of others who judged these pairs, each compared with the raters: of `zhichun judge`, or a scored file.
    of
        Rater of the table of ratings to hold against the others, such as an LLM; may be repeated.
    columns
        Own column names, `judge=annotator`: query, product_id, locale, judge, label; of the catalogue
        `products.title=name`.
    labels
        Grades of the ratings, `3=E,2=S,1=C,0=I`; `-1=skip` for 'not judged'.
    products
        Catalogue whose titles the page shows: a table, a dataset folder or a folder in the official layout.
    out
        Folder to make: index.html with the disagreements, agreement.json.
    draws
        Draws of the bootstrap over queries.
    seed
        Seed of the draws.
    """
    from zhichun.cli.tables import intervals_table, raters_table
    from zhichun.data.readers.ratings import read_ratings
    from zhichun.judgements.agreement import measure_agreement, write_agreement
    from zhichun.score.parts import of_pairs

    own_columns, grades = mapping(columns, "--columns"), mapping(labels, "--labels")
    rated = read_ratings(ratings, *(more or ()), columns=of_pairs(own_columns), labels=grades, locale=locale)
    rated = rated.judging(of or ())
    found = measure_agreement(rated, draws=draws, seed=seed)
    title = f"{found['pairs']:,} pairs of {found['queries']:,} queries, {found['ratings']:,} ratings"
    shown = {name: heading for name, heading in AGREEMENT.items() if name in found["all"]}
    stdout.print(intervals_table(title, {"all": found["all"], **found["by_locale"], **found["between"]}, shown))
    by_label = {f"{label} against the rest": of_label for label, of_label in found["by_label"].items()}
    titles = {"share": "majority says", "unanimous": AGREEMENT["unanimous"], "kappa": "kappa", "alpha": "alpha"}
    stdout.print(intervals_table("by label", by_label, titles))
    stdout.print(raters_table("each rater against the majority of the other people", found))
    for name, beside in found["beside"].items():
        for line in beside["verdict"]:
            say(f"{name}: {line}")
    if found["ceiling"]:
        say("The ceiling assumes that raters err independently given the truth, and alike for all queries.")
    if found["alone"]:
        say(f"{found['alone']:,} ratings are of pairs that nobody else rated and were skipped.")
    if rated.passed_over:
        say(f"{rated.passed_over:,} rows have no judgement and were skipped.")
    if out is not None:
        write_agreement(out, found, rated, products=products, columns=own_columns, locale=locale, overwrite=overwrite)
        say(f"{out / 'index.html'}: all figures, and the disagreements to read")


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
    after correction for their number. Exit status 1 then. Pairs that A or B was trained on are left out.

    Parameters
    ----------
    a
        The proposed system: a folder of `zhichun train`, `export` or `ensemble`, a file of `zhichun score`, or another
        system's ranking: a TREC run file, or a table with query, product_id and score or rank.
    b
        The baseline: any of these.
    gate
        Condition that A - B has to meet, such as 'ndcg@10>=-0.002'; names of ir_measures are understood (nDCG@10, P@5).
    strict
        Fail where a gate is not shown to hold overall.
    out
        Folder to make: index.html, compare.json, junit.xml, and for the tools of TREC a.run, b.run and judged.qrels.
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
        strict=strict,
        out=out,
        overwrite=overwrite,
        draws=draws,
        seed=seed,
    )
    stdout.print(comparison_table(found))
    for note in found["notes"]:
        say(note)
    verdicts = [each for each in found["gates"] if each["part"] == "all" or each["verdict"] == "fails"]
    for each in verdicts:
        say(f"{each['verdict']}: {each['gate']}, {each['part']}: A - B {each['difference']:+.4f}, p = {each['p']:.4f}")
    if out is not None:
        say(f"{out / 'index.html'}: figures, segments, and the queries that moved most")
    if any(each["failed"] for each in found["gates"]):
        raise typer.Exit(1)


@command
def judge(
    pairs: Path,
    out: Path,
    *,
    url: str,
    model: str,
    products: Path | None = None,
    columns: str = "",
    locale: str = "us",
    on_bad_rows: Literal["fail", "drop"] = "fail",
    prompt: str | None = None,
    probabilities: bool = False,
    request: str = "{}",
    price: tuple[float, float] | None = None,
    limit: Annotated[int | None, typer.Option(min=1)] = None,
    concurrency: AtLeast1 = 8,
    retries: Annotated[int, typer.Option(min=0)] = 5,
    timeout: Annotated[float, typer.Option(min=0.1)] = 60,
    characters: AtLeast1 = 2000,
    key_variable: str = "OPENAI_API_KEY",
    cache: Path | None = None,
    retry_failed: bool = False,
    yes: bool = False,
    overwrite: bool = False,
) -> None:
    """Have an LLM judge pairs over an OpenAI-compatible chat API: OpenAI, vLLM, Ollama, llama.cpp and others.

    Prints the cost and asks first. Every answer is kept: after a kill the same command resumes. Needs
    `pip install 'zhichun[judge]'`; a key comes from the environment.

    Parameters
    ----------
    pairs
        Pairs to judge, with query and product_id: CSV, TSV, JSON Lines or Parquet.
    out
        File to write, a row for each distinct pair: .parquet, .csv, .tsv or .jsonl.
    url
        Base of the API, such as http://localhost:8000/v1.
    model
        Name of the model there; it is also the judge's name.
    products
        Catalogue to look products up in by product_id: a table or a folder. Its own column names are given as
        `products.title=name`.
    prompt
        File with a guideline of your own, or `en`, `es`, `ja`; default: the packaged one in the language of the locale.
    probabilities
        Ask for the label alone, and keep the four labels' probabilities where the server returns log probabilities;
        default: a reason in one sentence and the label, as JSON.
    request
        Further fields of each request as JSON; null leaves one out: `{"temperature": null, "seed": 1}`.
    price
        Price of a million tokens in, and of a million out, `0.15 0.60`, to print the cost.
    limit
        Judge the first pairs only.
    concurrency
        Calls at once.
    retries
        Tries after the first, with pauses that grow or that the server asks for.
    timeout
        Seconds that one try may take.
    characters
        Characters of each text that are sent at most.
    key_variable
        Environment variable with the key.
    cache
        SQLite file of the answers; default: ~/.cache/zhichun/judgements.sqlite.
    retry_failed
        Ask again where the answer could not be used.
    yes
        Do not ask before the first call; needed without a terminal.
    """
    from zhichun.core.files import cache_folder
    from zhichun.judgements.chat import Chat, Prompt
    from zhichun.judgements.judge import JudgingJob

    if out.is_file() and not (overwrite or retry_failed):
        raise UserError("the file is there already.", file=out, remedy="Choose another name, or give --overwrite.")
    sending: dict[str, Any] = {
        "request": _request(request),
        "key_variable": key_variable,
        "timeout": timeout,
        "retries": retries,
    }
    job = JudgingJob(
        chat=Chat(url, model, letter=probabilities, **sending),
        prompt=Prompt(guideline=prompt, letter=probabilities, longest=characters),
        pairs=pairs,
        out=out,
        cache=cache or cache_folder() / "judgements.sqlite",
        catalogue=products,
        columns=mapping(columns, "--columns"),
        locale=locale,
        limit=limit,
        concurrency=concurrency,
        retry_failed=retry_failed,
        on_bad_rows=on_bad_rows,
        say=say_aside,
    )
    plan = job.plan()
    _say_plan(job, plan, price)
    if plan.counts["calls"] and not yes:
        if not sys.stdin.isatty():
            raise UserError("nobody is there to be asked.", remedy="Give --yes to make the calls.")
        typer.confirm("Go on?", abort=True)
    with Bar("judge", "pairs") as bar:
        bar.start(0, plan.counts["calls"])
        found = job.run(plan, lambda: bar.advance(1))
    labels = ", ".join(f"{label} {found.labels[label]:,}" for label in LABELS)
    say(f"{out}: {len(plan.pairs) - found.failures.total():,} of {len(plan.pairs):,} pairs judged: {labels}")
    for reason, count in found.failures.most_common():
        say(f"  failed: {count:,} × {reason} (see its column failure)")
    if found.tokens_in:
        cost = f", which cost {_cost(price, found.tokens_in, found.tokens_out):,.2f}" if price else ""
        say(f"  its answers took {found.tokens_in:,} tokens in, {found.tokens_out:,} out{cost}")


def _say_plan(job: "JudgingJob", plan: "Plan", price: tuple[float, float] | None) -> None:
    """Say what will be asked, and what it costs at most."""
    names = {"repeated": "repeated rows", "judged": "judged before", "failed": "failed before (--retry-failed)"}
    counted = "".join(f", {plan.counts[name]:,} {what}" for name, what in names.items() if plan.counts[name])
    calls, tokens = plan.counts["calls"], plan.counts["tokens"]
    say(f"{len(plan.pairs):,} pairs{counted}; {calls:,} calls of {job.chat.model} at {job.chat.url}")
    if calls:
        most = (job.chat.most_tokens or 0) * calls
        bound = f", at most {most:,} out" if most else ""
        cost = f": at most about {_cost(price, tokens, most):,.2f}" if price and most else ""
        say(f"about {tokens:,} tokens in{bound}{cost}")


def _cost(price: tuple[float, float], tokens_in: int, tokens_out: int) -> float:
    return (tokens_in * price[0] + tokens_out * price[1]) / 1e6


def _request(text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise typer.BadParameter(f"{text!r} is no JSON object", param_hint="--request")
    return fields

"""Commands on trained models as a whole: ensemble, stack, export, plan."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from zhichun.cli.options import command, names_of, say, stdout
from zhichun.core.storage import HUB_NAME


@command
def ensemble(
    runs: list[Path],
    *,
    out: Path,
    weights: Literal["equal", "fitted"] = "equal",
    data: Path | None = None,
    copy: bool = False,
    overwrite: bool = False,
) -> None:
    """Put trained models together; `evaluate`, `score` and `rank` take the folder in place of a run.

    Classifiers are averaged by their probabilities, regressors by their gains, and both together by expected gain and
    gain, as the paper does for task 1.

    Parameters
    ----------
    runs
        Run folders, exports, or folders of the runs of all folds (`zhichun train --folds`), each of which weighs as
        one.
    out
        Ensemble folder to make.
    weights
        `equal`, or `fitted` to the pairs of --data that all members held out.
    data
        Dataset folder: measures what the ensemble gains on held-out pairs.
    copy
        Copy the models into the folder, in place of referring to them.
    """
    from zhichun.cli.tables import differences, gain_table
    from zhichun.score.make_ensemble import make_ensemble

    made = make_ensemble(runs, out, weights=weights, data=data, copy=copy, overwrite=overwrite)
    for member in made.members:
        say(f"  {member.weight:.3f}  {member.task}  {member.name}")
    if made.gain is not None:
        stdout.print(gain_table(made.gain))
        for line in differences(made.gain):
            say(line)
        for name in made.gain.get("left_out", ()):
            say(f"  left out, as it would weigh nothing: {name}")
    say(f"{out}: {len(made.members)} models. Next: zhichun evaluate {out} --data {data or 'DATA'}")


@command
def stack(
    runs: list[Path] | None = None,
    *,
    data: Path,
    out: Path,
    features: str = "",
    similarity: str | None = None,
    beside: list[Path] | None = None,
    share: float = 0.3,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    overwrite: bool = False,
) -> None:
    """Train a second stage that reads a query's whole list; the folder is scored and served in place of a run.

    Trees (LightGBM) read what the models of the folds predict of each product and of the list's others, beside words,
    brand, color and numbers of the texts. Where there are runs of `zhichun train --folds K --nested`, the report has
    what the stack and each group of features gain. Needs `pip install 'zhichun[stack]'`.

    Parameters
    ----------
    runs
        Folders of the runs of all folds (`zhichun train RECIPE --folds K`). With --similarity there may be none: the
        trees then read texts and the similarity alone, and are trained in seconds.
    out
        Stack folder to make.
    features
        Numeric columns of the catalogue to read too: `price,rating,sales`.
    similarity
        Sentence encoder, by name or folder (E5, MiniLM of sentence-transformers): trees read its cosines of query and
        product, and a linear model its vectors. The larger gain, the fewer the judgements.
    beside
        A run whose predictions are averaged with the second stage's, which does not read it; may be given more than
        once. It needs no folds: `zhichun stack --similarity ENCODER --beside RUN …` is both together.
    share
        Share of the models beside it.
    seed
        Seed of the trees, and of the pairs that the linear model reads where there are many.
    """
    from zhichun.cli.tables import said_difference
    from zhichun.fit.second_stage import StackSettings
    from zhichun.fit.stack import stack as make_stack
    from zhichun.metrics.metric import UNRANKED

    settings, own = StackSettings(seed=seed), names_of(features)
    made = make_stack(
        runs or [],
        data,
        out,
        own=own,
        similarity=similarity,
        beside=beside or [],
        share=share,
        settings=settings,
        overwrite=overwrite,
    )
    say(f"{made['pairs']:,} judged pairs of {made['queries']:,} queries")
    for name, gap in made.get("against_models", {}).items():
        say(said_difference("stack minus the mean of its models", name, gap))
    if "ndcg" not in made.get("against_models", {"ndcg"}):
        say(UNRANKED.capitalize())
    say(f"{out / 'report.html'}: what it reads. Next: zhichun evaluate {out} --data {data}")


Engine = Literal["sentence-transformers", "tei", "vllm", "elasticsearch", "opensearch", "vespa"]


@command
def export(
    run: Path,
    *,
    to: list[str] | None = None,
    target: Annotated[Engine | None, typer.Option("--for")] = None,
    out: Path | None = None,
    data: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Export a run: for scoring on a CPU without torch, or for another engine.

    With --to, `zhichun score`, `rank` and `evaluate` take the folder in place of the run and choose the fastest safe
    engine. Every format is checked against the model on held-out pairs; int8 is safe where 99 % of the labels are the
    same. With --for, the folder is in the engine's own form, with pairs and the scores that the engine must give.

    Parameters
    ----------
    run
        Run folder of `zhichun train`.
    to
        `onnx`, `onnx-int8`, `openvino` (which computes in fp32 and bf16) or `openvino-int8`; may be given more than
        once, into one folder.
    target
        The engine that it is for. It takes one score of a pair's text: `distil:one_score` trains such a model.
    out
        Folder to make; default: RUN/export with --to.
    data
        Dataset folder whose pairs calibrate int8 and check every format; the one that the run was trained on if not
        given.
    """
    if (target is None) == (not to):
        raise typer.BadParameter("give one of the two", param_hint="--to, --for")
    if target is not None:
        _export_for(run, target, out, data, overwrite)
        return
    from zhichun.cli.tables import checks_table
    from zhichun.score.export.export_folder import ExportConfig
    from zhichun.score.export.export_run import export as export_run
    from zhichun.score.export.exported import choose
    from zhichun.score.folders import is_stack

    folder = export_run(run, to or [], out=out, data=data, overwrite=overwrite)
    if is_stack(folder):
        say(f"{folder}: a stack with its exported models. Next: zhichun evaluate {folder} --data DATA")
        return
    config = ExportConfig.load(folder)
    stdout.print(checks_table(config.checks))
    say(f"{folder}: exported. Next: zhichun score {folder} PAIRS OUT, by {choose(config, folder)} on this machine")


def _export_for(run: Path, target: Engine, out: Path | None, data: Path | None, overwrite: bool) -> None:
    from zhichun.cli.tables import said_difference
    from zhichun.score.export.for_engines import export_for

    if out is None:
        raise typer.BadParameter("is needed with --for", param_hint="--out")
    about = export_for(run, target, out, data=data, overwrite=overwrite)
    say(f"{about['pairs']} pairs for {target}, at most {about['greatest_difference']:.1g} from the run's scores")
    if "mean" in (student := about["student"] or {}):
        say(said_difference(f"student minus {student['teacher']}, held out", "ndcg", student))
    elif student:
        say(f"what the student loses is not known: predictions of {student['teacher'] or 'its teacher'} are not there")
    say(f"{out}: how it is loaded is in README.md, how it is checked in parity.jsonl")


@command
def plan(
    models: list[str] | None = None,
    *,
    pairs: int = 1_000_000,
    tokens: int = 175,
    latency_ms: float = 100,
    candidates: int | None = None,
    seconds: float = 30,
    out: Path | None = None,
) -> None:
    """Measure this machine for half a minute: what a catalogue costs to score on it.

    Pairs per second, time and memory by model and engine, and how many candidates a query may have. Runs and exports
    are timed from texts to scores; encoders that are only named are timed by torch, to which an export is several times
    as fast.

    Parameters
    ----------
    models
        Folders of `zhichun train` or `zhichun export`, or encoders by name: `tiny`, `MiniLM-L6-384`, `XLM-R-base` or
        `XLM-R-large`, which get random weights, or any on the hub. The first three if none is given.
    pairs
        Pairs to score.
    tokens
        Tokens of a pair; pairs of the Shopping Queries Dataset have 175, cut to 256.
    latency_ms
        Milliseconds within which a query's candidates are to be scored.
    candidates
        Candidates of a query, whose latency is shown too.
    seconds
        About how long to measure.
    out
        JSON file to write the figures to.
    """
    from zhichun.cli.tables import scoring_table
    from zhichun.core.files import write_json
    from zhichun.score.plan import DEFAULT, Question
    from zhichun.score.plan import plan as measure

    question = Question(pairs=pairs, tokens=tokens, latency=latency_ms / 1000, candidates=candidates, seconds=seconds)
    answers = measure(question, models or DEFAULT)
    stdout.print(scoring_table(answers))
    if out is not None:
        write_json(out, answers)
        say(f"{out}: the figures as JSON")


@command
def card(run: Path, *, licence: str = "other", dataset: str | None = None) -> None:
    """Write a run's model card, README.md in its folder, from what `zhichun evaluate` measured.

    Parameters
    ----------
    licence
        Licence of the model, as the hub names it: `apache-2.0`.
    dataset
        Name of the data, on the hub or in words.
    """
    from zhichun.score.hub import write_card

    say(f"{write_card(run, licence=licence, dataset=dataset)}: read it. Next: zhichun push {run} USER/NAME")


@command
def push(run: Path, repository: str, *, public: bool = False, yes: bool = False) -> None:
    """Upload a run, or a folder of `zhichun export --for`, to the Hugging Face hub; without --yes, only list the files.

    Texts of the dataset stay here. The token is HF_TOKEN, or that of `hf auth login`.

    Parameters
    ----------
    run
        Run folder with a model card (`zhichun card`), or a folder of `zhichun export --for`.
    repository
        Name on the hub, `USER/NAME`.
    public
        Make the repository public; without it a new one is private.
    yes
        Upload.
    """
    from zhichun.score.hub import files_to_push
    from zhichun.score.hub import push as upload

    if not HUB_NAME.fullmatch(repository):
        raise typer.BadParameter(f"{repository!r} is no name on the hub, such as USER/NAME", param_hint="REPOSITORY")
    files = files_to_push(run)
    for path, size in files.items():
        say(f"  {size:>14,}  {path}")
    said = f"{len(files)} files, {sum(files.values()):,} bytes, to {repository} ({'public' if public else 'private'})"
    if not yes:
        say(f"{said}. Nothing was uploaded: add --yes to do it.")
        return
    say(f"{said}: {upload(run, repository, public=public)}")

"""Commands that make data: sample, prepare, summary, word2vec."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from zhichun.cli.options import command, mapping, names_of, say
from zhichun.core.console import Stages, say_aside
from zhichun.core.files import cache_folder, write_json

if TYPE_CHECKING:
    from zhichun.text.tokenizer import PairTokenizer


@command
def sample(
    folder: Path,
    *,
    products: int = 2000,
    queries: int = 600,
    seed: int = 0,
    text: Literal["short", "esci"] = "short",
    overwrite: bool = False,
) -> None:
    """Make a sample shop: a made-up catalogue with judged queries in English, Spanish and Japanese.

    In the official layout of the Shopping Queries Dataset, with the true labels beside it.

    Parameters
    ----------
    folder
        Folder to write.
    products
        Products in the catalogue.
    queries
        Judged queries.
    seed
        The same seed gives the same bytes.
    text
        Length of the texts: `short`, or `esci` as in the real set.
    """
    from zhichun.data.sample_shop import write_sample_shop

    with Stages("products") as stages:
        made = write_sample_shop(
            folder,
            products=products,
            queries=queries,
            seed=seed,
            text=text,
            overwrite=overwrite,
            progress=partial(stages, "sample"),
        )
    shares = " ".join(f"{label} {made[f'share_{label}']:.1%}" for label in "ESCI")
    say(f"{folder}: {made['pairs']:,} pairs of {made['queries']:,} queries, {made['products']:,} products")
    say(f"labels {shares}; {made['wrong_labels']:,} wrong ones in the training split (true_labels.parquet)")


@command
def prepare(
    places: Annotated[list[Path], typer.Argument(metavar="[SOURCE] DIR")],
    *,
    examples: Path | None = None,
    products: Path | None = None,
    topics: Path | None = None,
    columns: str = "",
    keep: str = "",
    labels: str = "",
    judges: Literal["majority", "mean", "distribution", "strict"] | None = None,
    judgements: list[str] | None = None,
    judgements_in_test: bool = False,
    locale: str = "us",
    folds: int = 5,
    test_share: float = 0.1,
    on_bad_rows: Literal["fail", "drop"] = "fail",
    drop_issues: Path | None = None,
    relabel: Path | None = None,
    balance: bool = False,
    translate: str | None = None,
    translation_model: str | None = None,
    translation_cache: Path | None = None,
    min_count_trigram: int = 15,
    overwrite: bool = False,
) -> None:
    """Check and clean a catalogue and its judgements, and write the dataset folder that training reads.

    Rows that cannot be used are counted by reason and listed with file and row in `rejected.parquet`.

    Parameters
    ----------
    places
        The folder in the official layout (not with --examples and --products), and the folder to write.
    examples
        Own judgements: CSV, TSV, JSON Lines, Parquet, Quepid CSV, TREC qrels.
    products
        Own catalogue: CSV, TSV, JSON Lines or Parquet.
    topics
        Query texts of TREC qrels: id, tab, query.
    columns
        Own column names, `query=search_term,label=grade`: query, product_id, locale, label, title, description,
        bullets, brand, color, split, weight, judge.
    keep
        Further columns of the catalogue to keep, for the `--features` of `zhichun stack`: `price,rating,sales`.
    labels
        Own grades, `3=E,2=S,1=C,0=I`; one that means 'not judged' is mapped so: `-1=skip`.
    judges
        How several judgements of a pair become one: the label that most chose, the one nearest to the mean grade, the
        share of each label as a soft target, or refused where they differ; default: majority where there is a column
        `judge` or there are --judgements, otherwise strict.
    judgements
        Further judgements with their weight beside one of the examples, `llm.csv:0.5`, such as those of `zhichun
        judge`; they add pairs, and are further judges of known ones.
    judgements_in_test
        Let them judge pairs of test queries too; by default what is tested by comes from the examples alone.
    folds
        Folds by query.
    test_share
        Share of queries for testing where there is no split.
    on_bad_rows
        `fail`, or `drop` them.
    drop_issues
        Table with a column example_id: judgements to leave out of training.
    relabel
        Table with columns example_id and new_label: judgements to correct in training; those of the twentieth of the
        queries that runs validate on by default stay as they are.
    balance
        Make training pairs of Complement and Irrelevant by cutting long texts up.
    translate
        Make training pairs by translating query and title, such as es:en.
    translation_model
        MarianMT model by hub name or folder; default: Helsinki-NLP/opus-mt-es-en, by the direction.
    translation_cache
        Folder of the cache of translations; default: ~/.cache/zhichun.
    min_count_trigram
        Trigrams with this many occurrences in the catalogue get a vector; those of queries always do.
    """
    from zhichun.data.prepare import prepare as steps
    from zhichun.data.prepare.making import Rebalance, Translation, read_direction
    from zhichun.data.prepare.split import RENUMBERED
    from zhichun.data.prepare.steps import MakingStep
    from zhichun.measure.dataset_page import PAGE_FILE, write_summary_page

    making: list[MakingStep] = [Rebalance()] if balance else []
    if translate is not None:
        from zhichun.model.translator import Translator

        source, target = read_direction(translate)
        model = translation_model or f"Helsinki-NLP/opus-mt-{source}-{target}"
        translator = Translator(model, translation_cache or cache_folder())
        say(f"translation: {translator.name}, licence {translator.licence}")
        making.append(Translation(translate=translator, source=source, target=target))
    elif translation_model or translation_cache:
        raise typer.BadParameter("has no effect without --translate", param_hint="--translation-…")
    if len(places) > 2:
        raise typer.BadParameter("give SOURCE and DIR, or DIR alone with --examples and --products")
    with Stages() as stages:
        manifest = steps.prepare(
            places[0] if len(places) == 2 else None,
            places[-1],
            examples=examples,
            products=products,
            topics=topics,
            columns=mapping(columns, "--columns"),
            keep=names_of(keep),
            labels=mapping(labels, "--labels"),
            judges=judges,
            judgements=[_weighted(each) for each in judgements or ()],
            judgements_in_test=judgements_in_test,
            locale=locale,
            on_bad_rows=on_bad_rows,
            folds=folds,
            test_share=test_share,
            drop_issues=drop_issues,
            relabel=relabel,
            steps=making,
            min_count_trigram=min_count_trigram,
            overwrite=overwrite,
            progress=stages,
            say=say_aside,
            finish=write_summary_page,
        )
    made = manifest["examples"]
    say(
        f"{places[-1]}: {made['kept']:,} of {made['read']:,} pairs, {made['queries']:,} queries, "
        f"{manifest['products']['kept']:,} products"
    )
    for kind in ("by_split", "by_locale", "by_label"):
        say("  " + kind[3:] + ": " + ", ".join(f"{name} {count:,}" for name, count in made[kind].items()))
    for part in ("examples", "products"):
        for reason, count in manifest[part]["dropped"].items():
            say(f"  dropped {part}: {count:,} × {reason} (see rejected.parquet)")
    if bare := manifest["products"]["kept"] - manifest["products"]["with_text"]["any"]:
        say(f"  products without a text in any column that is used: {bare:,}")
    for name, how in made["ids"].items():
        if how == RENUMBERED:
            say(f"  {name}: the file's are not whole numbers, one each; {how}, from 0")
    for name, count in manifest["products"]["missing_words"].items():
        say(f"  {name}: {count:,} values such as NULL or N/A were taken for empty")
    for reason, count in manifest["refused_issues"].items():
        say(f"  skipped in the lists of corrections: {count:,} × {reason} (see rejected.parquet)")
    for step in manifest["steps"]:
        if step.get("untrained"):
            say(f"  {step['step']}: {step['untrained']:,} pairs have weight 0: never trained on, still validated on")
        if step.get("changed"):
            say(f"  {step['step']}: {step['changed']:,} labels changed (see relabelled.parquet)")
        if step.get("settled"):
            how = manifest["options"]["judges"]
            say(f"  {step['step']}: {step['settled']:,} pairs that judges disagree on were settled by {how}")
        if step["made"]:
            dropped = "".join(f", {count:,} × {reason} dropped" for reason, count in step["dropped"].items())
            say(f"  {step['step']}: {step['made']:,} training pairs made{dropped}")
    say(f"{places[-1] / PAGE_FILE}: what the data are like, as a page")
    for warning in manifest["warnings"]:
        say(f"Too few queries: {warning}")


@command
def summary(folder: Path, *, tokenizer: str | None = None, sample: int = 10_000) -> None:
    """Compute the figures of a dataset folder's summary page again; with a tokenizer also lengths in tokens.

    Counts by locale, label, split and step, lengths, empty fields, brands and colors, in `summary.html` and
    `summary.json`.

    Parameters
    ----------
    folder
        Dataset folder of `zhichun prepare`.
    tokenizer
        Also count tokens: an encoder by hub name, or a folder with tokenizer.json.
    sample
        Number of products in which words and tokens are counted, drawn evenly.
    """
    from zhichun.data.prepare.summary import SUMMARY_FILE, summarise
    from zhichun.measure.dataset_page import write_summary_page

    with Stages() as stages:
        figures = summarise(
            folder,
            tokenizer=None if tokenizer is None else _open_tokenizer(tokenizer),
            tokenizer_name="" if tokenizer is None else _name_of(tokenizer),
            sample=sample,
            progress=stages,
        )
    write_json(folder / SUMMARY_FILE, figures)
    say(f"{write_summary_page(folder)}: made")


def _weighted(text: str) -> tuple[Path, float]:
    """Read a file with its weight."""
    name, _, weight = text.rpartition(":")
    try:
        return Path(name), float(weight)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not of the form FILE:0.5", param_hint="--judgements") from None


def _name_of(tokenizer: str) -> str:
    """Name a folder by itself, without the path to it; a name on the hub stays as it is."""
    return Path(tokenizer).resolve().name if Path(tokenizer).is_dir() else tokenizer


def _open_tokenizer(name: str) -> "PairTokenizer":
    """Open a folder with ``tokenizer.json``, also that of a run, and anything else as transformers does."""
    from zhichun.text.tokenizer import PairTokenizer

    for folder in (Path(name), Path(name) / "model"):
        if (folder / "tokenizer.json").is_file():
            return PairTokenizer.load(folder)
    from zhichun.model.encoder import load_tokenizer

    return load_tokenizer(name)


@command
def word2vec(
    folder: Path, *, size: int = 64, epochs: int = 3, products: int | None = None, seed: int = 0, workers: int = 1
) -> None:
    """Train Word2vec on the catalogue's trigrams, for `model.trigram_start=word2vec` or `word2vec frozen`.

    An interrupted run starts again. Needs `pip install 'zhichun[word2vec]'`.

    Parameters
    ----------
    folder
        Dataset folder of `zhichun prepare`.
    size
        Size of a vector; `model.trigrams` of the recipe must be the same.
    epochs
        Passes over the catalogue.
    products
        Maximum number of products, drawn evenly; default: all.
    seed
        The same seed gives the same bytes, with one worker.
    workers
        Threads; with more than one the result differs each time.
    """
    from zhichun.fit.word2vec import Word2VecSettings, train_trigram_vectors

    settings = Word2VecSettings(size=size, epochs=epochs, products=products, seed=seed)
    with Stages("products") as stages:
        path = train_trigram_vectors(folder, settings, workers=workers, progress=stages)
    use = f"--set model.trigrams={size} --set model.trigram_start=word2vec"
    say(f"{path}: made. Next: zhichun train RECIPE --data {folder} --out RUN {use}")

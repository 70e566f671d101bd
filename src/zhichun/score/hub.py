"""A run on the hub: its model card, from what was recorded and measured, and its upload.

Texts of the dataset (predictions, reports, parity files) and what tells of the machine stay here.
"""

import warnings
from pathlib import Path
from typing import Any, Final

from zhichun.core.errors import UserError
from zhichun.core.files import read_json, write_text
from zhichun.core.storage import reaching_hub
from zhichun.metrics.figures import baselines, flat, title_of
from zhichun.score.export.export_folder import rendered
from zhichun.score.folders import ENGINE_FILE, finished

CARD: Final = "README.md"
METRICS: Final = "metrics.json"
# What of a run is uploaded, and what of a folder of `zhichun export --for` is not.
UPLOADED: Final = ("model/**/*", "recipe.json", METRICS, CARD)
KEPT: Final = ("parity.jsonl", "*.parquet", "hashes.json")
_TASKS: Final = {"esci": "text-classification", "substitute": "text-classification", "gain": "text-ranking"}


def model_card(run: Path, *, licence: str = "other", dataset: str | None = None) -> str:
    """Write a model card from a run's recipe and `metrics.json`.

    Parameters
    ----------
    run
        Run folder that `zhichun evaluate` has measured.
    licence
        Of the model, as the hub names it: `apache-2.0`; the encoder's own may decide it.
    dataset
        Name of the data on the hub, or how they are called.

    Raises
    ------
    UserError
        When the run is not finished, or was not measured.
    """
    finished(run)
    if not (run / METRICS).is_file():
        remedy = f"Measure it first: zhichun evaluate {run} --data DATA"
        raise UserError("there is no metrics.json, which the card's figures are from.", file=run, remedy=remedy)
    recipe, measured = read_json(run / "recipe.json", {"task": str, "model": dict}), read_json(run / METRICS)
    figures = {name: value for name, value in flat(measured).items() if not name.startswith("substitute.")}
    columns = {
        "this model": figures,
        **{f"{where} alone": flat(of) for where, of in measured.get("by_locale", {}).items()},
    }
    columns |= baselines(measured)
    rows = [[title_of(name), *(f"{of[name]:.4f}" if name in of else "" for of in columns.values())] for name in figures]
    table = [["", *columns], ["---"] * (1 + len(columns)), *rows]
    values = {
        "name": run.resolve().name,
        "licence": licence,
        "dataset": dataset or "judged queries and products",
        "recipe": recipe,
        "measured": measured,
        "figures": [(name, title_of(name), value) for name, value in figures.items()],
        "table": "\n".join(f"| {' | '.join(row)} |" for row in table),
        "sides": [name for name in ("trigrams", "country", "brand", "color") if recipe["model"].get(name) is not None],
        "pipeline": _TASKS[recipe["task"]],
        "is_public": dataset is not None and "/" in dataset,
        "encoder_is_public": "/" in recipe["model"]["encoder"] and not Path(recipe["model"]["encoder"]).exists(),
    }
    return rendered("card.md", values)


def write_card(run: Path, *, licence: str = "other", dataset: str | None = None) -> Path:
    """Write the model card into the run folder; see `model_card`."""
    write_text(run / CARD, model_card(run, licence=licence, dataset=dataset))
    return run / CARD


def files_to_push(folder: Path) -> dict[str, int]:
    """List what an upload has of a run folder or of a folder of `zhichun export --for`, with sizes in bytes.

    Raises
    ------
    UserError
        When it is neither, or has no model card yet.
    """
    if (folder / ENGINE_FILE).is_file():
        paths = [path for path in folder.rglob("*") if not any(path.match(pattern) for pattern in KEPT)]
    else:
        finished(folder)
        paths = [path for pattern in UPLOADED for path in folder.glob(pattern)]
        if not (folder / CARD).is_file():
            raise UserError("there is no model card.", file=folder, remedy=f"Make one: zhichun card {folder}")
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(paths) if path.is_file()}


def push(folder: Path, name: str, *, public: bool = False) -> str:
    """Upload a run folder, or one of `zhichun export --for`, to the hub.

    Parameters
    ----------
    folder
        What to upload; `files_to_push` lists its files.
    name
        `USER/NAME`; it is made if it is not there.
    public
        Whether a repository that is made is public.

    Returns
    -------
    str
        Its address.

    Raises
    ------
    UserError
        When the hub refuses, or cannot be reached.
    """
    files, stale = list(files_to_push(folder)), None if (folder / ENGINE_FILE).is_file() else "model/*"
    remedy = "Name it USER/NAME, and give a token that may write: HF_TOKEN=…, or hf auth login."
    with reaching_hub(f"{name!r} could not be uploaded", remedy) as library:
        api: Any = library.HfApi()
        address = api.create_repo(name, private=not public, exist_ok=True)
        if not public and not api.model_info(name).private:
            remedy = "Name another, or upload to it with --public."
            raise UserError(f"{name!r} is there already, and is public.", remedy=remedy)
        said = f"Upload {folder.resolve().name} with zhichun"
        # Vocabularies are Parquet.
        warnings.filterwarnings("ignore", "It seems that you are about to commit a data file")
        api.upload_folder(
            repo_id=name, folder_path=folder, allow_patterns=files, delete_patterns=stale, commit_message=said
        )
    return str(address)

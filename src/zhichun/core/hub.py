"""Models and datasets of the Hugging Face hub, by name: `USER/NAME`, with a revision `USER/NAME@v1`.

``HF_ENDPOINT`` names another hub, ``HF_TOKEN`` is for what is private, ``HF_HUB_OFFLINE=1`` takes what was fetched
before.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

from zhichun.core.console import say_aside
from zhichun.core.errors import UserError

DATASET: Final = "hf:"
_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?")


def hub() -> Any:
    """Import huggingface_hub, which carries no types that help here."""
    try:
        import huggingface_hub.errors
    except ModuleNotFoundError as error:
        raise UserError(
            "this needs huggingface_hub, which is not installed.", remedy="Install it with: pip install 'zhichun[hub]'"
        ) from error
    return huggingface_hub


@contextmanager
def reaching_hub(problem: str, remedy: str) -> Iterator[Any]:
    """Give huggingface_hub; what it raises, and the client that it asks by, becomes a `UserError`."""
    library = hub()
    try:
        yield library
    except (OSError, ValueError, library.errors.HTTPError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"{problem} ({reason}).", remedy=remedy) from error


def local(place: Path | str) -> Path:
    """Return a folder or file as it is; what is none and looks like a name on the hub is fetched from there.

    A path below a folder that is here is no name.

    Raises
    ------
    UserError
        When the hub has no such model, or cannot be reached.
    """
    path = Path(place)
    if path.exists() or not _NAME.fullmatch(str(place)) or Path(path.parts[0]).exists():
        return path
    return fetched(str(place), "model")


def fetched(name: str, kind: Literal["model", "dataset"], patterns: Sequence[str] | None = None) -> Path:
    """Fetch a repository of the hub, or those of its files that match, into the hub's cache.

    Raises
    ------
    UserError
        When there is none of that name, or it cannot be reached.
    """
    repository, _, revision = name.partition("@")
    problem = f"there is no such folder here, and the {kind} {name!r} could not be had from the hub"
    with reaching_hub(problem, "Check the name; HF_TOKEN is needed for what is private.") as library:
        found = library.snapshot_download(
            repository,
            repo_type=kind,
            revision=revision or None,
            allow_patterns=None if patterns is None else [*patterns],
        )
    say_aside(f"{name}: from the hub, {found}")
    return Path(found)

"""What a translator is, and how one is opened by name."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol, get_args

from zhichun.core.errors import UserError, suggest

Engine = Literal["marian", "ctranslate2"]
ENGINES: tuple[str, ...] = get_args(Engine)


class Translator(Protocol):
    """Translates texts from one language to another."""

    @property
    def name(self) -> str:
        """What decides the translations, for people and for the cache: model, its fingerprint, engine, beams."""

    @property
    def licence(self) -> str:
        """The licence of the model, and who says so."""

    def translate(self, texts: Sequence[str]) -> list[str]:
        """Translate texts, in order; an empty one stays empty."""


def open_translator(engine: str, model: str, cache: Path, *, beams: int = 1) -> Translator:
    """Open a model with an engine.

    Parameters
    ----------
    engine
        ``marian`` (transformers, on a GPU where there is one) or ``ctranslate2``.
    model
        Name on the Hugging Face hub, or a folder: a MarianMT checkpoint, or for ``ctranslate2`` a converted one.
    cache
        Where CTranslate2 keeps models that it had to convert.
    beams
        Width of the beam search; 1 is greedy.

    Raises
    ------
    UserError
        When there is no such engine or model, or what it needs is not installed.
    """
    if engine not in ENGINES:
        raise UserError(f"there is no translation engine {engine!r}.", remedy=suggest(engine, ENGINES))
    if beams < 1:
        raise UserError(f"beams={beams} cannot be.", remedy="Give a whole number from 1; 1 is greedy.")
    try:
        if engine == "marian":
            from zhichun.model.translation.marian import open_marian

            return open_marian(model, beams)
        from zhichun.model.translation.converted import open_converted

        return open_converted(model, cache, beams)
    except ImportError as error:
        raise UserError(
            f"translation with {engine} needs {error.name}, which is not installed.",
            remedy="Install it with: pip install 'zhichun[translate]'",
        ) from error

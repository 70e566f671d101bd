"""Texts to SentencePiece pieces and back: what all engines share.

Legend: ``B`` texts of a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Protocol

from sentencepiece import SentencePieceProcessor

from zhichun.core.errors import UserError
from zhichun.model.translation.batches import batches_by_length
from zhichun.model.translation.checkpoint import SOURCE_PIECES, TARGET_PIECES, Checkpoint

Pieces = list[list[str]]

END: Final = "</s>"
SPECIAL: Final = frozenset((END, "<pad>", "<unk>"))
# Of a longer text only the beginning is translated; a translation without end is cut there.
MOST_PIECES: Final = 256


class Generator(Protocol):
    """An engine: a batch of pieces in one language to pieces in the other."""

    def __call__(self, pieces_B: Pieces) -> Pieces:
        """Translate one batch; each text ends with ``</s>``."""


@dataclass(frozen=True, eq=False)
class PieceTranslator:
    """A `Translator` of a checkpoint.

    Parameters
    ----------
    checkpoint
        The model's files.
    engine
        Name of the engine with its settings.
    generate
        The engine.
    """

    checkpoint: Checkpoint
    engine: str
    generate: Generator

    @property
    def name(self) -> str:
        """Model, fingerprint and engine."""
        return f"{self.checkpoint.name} {self.checkpoint.fingerprint} {self.engine}"

    @property
    def licence(self) -> str:
        """The model's licence."""
        return self.checkpoint.licence

    def translate(self, texts: Sequence[str]) -> list[str]:
        """Translate texts, in order; an empty one stays empty.

        Raises
        ------
        UserError
            When the checkpoint's SentencePiece models cannot be read.
        """
        source, target = self._processors
        pieces = [encoded[: MOST_PIECES - 1] for encoded in source.encode(list(texts), out_type=str)]
        translated = [""] * len(texts)
        for rows in batches_by_length([len(encoded) for encoded in pieces]):
            for row, made in zip(rows, self.generate([[*pieces[row], END] for row in rows]), strict=True):
                translated[row] = target.decode_pieces([piece for piece in made if piece not in SPECIAL]).strip()
        return translated

    @cached_property
    def _processors(self) -> tuple[SentencePieceProcessor, SentencePieceProcessor]:
        folder = self.checkpoint.folder
        return _read_pieces(folder / SOURCE_PIECES), _read_pieces(folder / TARGET_PIECES)


def _read_pieces(path: Path) -> SentencePieceProcessor:
    try:
        return SentencePieceProcessor(model_file=str(path))
    except (OSError, RuntimeError) as error:
        raise UserError("cannot be read as a SentencePiece model.", file=path, remedy="Get it again.") from error

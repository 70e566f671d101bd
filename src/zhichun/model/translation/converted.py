"""MarianMT by CTranslate2, which runs it several times faster on a CPU (https://github.com/OpenNMT/CTranslate2).

A checkpoint of transformers is converted once and kept; that needs torch, running it does not.
"""

import shutil
import warnings
from pathlib import Path
from typing import Final

import ctranslate2
from safetensors import SafetensorError

from zhichun.core.errors import UserError
from zhichun.model.translation.checkpoint import CARD, SOURCE_PIECES, TARGET_PIECES, Checkpoint
from zhichun.model.translation.pieces import MOST_PIECES, Pieces, PieceTranslator

_COPIED: Final = (SOURCE_PIECES, TARGET_PIECES, CARD)


def open_converted(model: str, cache: Path, beams: int) -> PieceTranslator:
    """Open a model in CTranslate2's format, or one of transformers after converting it.

    Parameters
    ----------
    model
        Name on the hub, or a folder.
    cache
        Where converted models are kept.
    beams
        Width of the beam search; 1 is greedy.

    Raises
    ------
    UserError
        When there is none, or it cannot be converted or read.
    """
    checkpoint = Checkpoint.find(model)
    folder = checkpoint.folder if checkpoint.is_converted else convert(checkpoint, cache)
    return PieceTranslator(checkpoint, f"ctranslate2 beams={beams}", ConvertedGenerator(folder, beams))


def convert(checkpoint: Checkpoint, cache: Path) -> Path:
    """Convert a MarianMT checkpoint, unless that was done before; the folder appears when it is whole."""
    folder = cache / f"ctranslate2-{checkpoint.fingerprint}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    copied = [name for name in _COPIED if (checkpoint.folder / name).is_file()]
    partial = folder.with_name(f"partial-{folder.name}")
    try:
        with warnings.catch_warnings():
            # transformers recommends sacremoses for its own tokenizer, which is not used here.
            warnings.simplefilter("ignore")
            converter = ctranslate2.converters.TransformersConverter(str(checkpoint.folder), copy_files=copied)
            converter.convert(str(partial), force=True)
        partial.rename(folder)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"the model cannot be converted for CTranslate2 ({error}).",
            file=checkpoint.folder,
            remedy="Use the engine marian.",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


class ConvertedGenerator:
    """Runs a converted model.

    Parameters
    ----------
    folder
        The model in CTranslate2's format.
    beams
        Width of the beam search; 1 is greedy.
    """

    def __init__(self, folder: Path, beams: int) -> None:
        self._beams = beams
        try:
            self._model = ctranslate2.Translator(str(folder), device="auto")
        except RuntimeError as error:
            raise UserError(f"the model cannot be read ({error}).", file=folder, remedy="Get it again.") from error

    def __call__(self, pieces_B: Pieces) -> Pieces:
        """Translate one batch."""
        made = self._model.translate_batch(pieces_B, beam_size=self._beams, max_decoding_length=MOST_PIECES)
        return [list(result.hypotheses[0]) for result in made]

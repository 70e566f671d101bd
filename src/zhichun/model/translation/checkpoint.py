"""A translation model on disk: found by name or path, known by the hash of its files, with its licence."""

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from zhichun.core.errors import UserError

# CTranslate2's weights; every other checkpoint is one of transformers.
CONVERTED: Final = "model.bin"
SOURCE_PIECES: Final = "source.spm"
TARGET_PIECES: Final = "target.spm"
CARD: Final = "README.md"
_FETCHED: Final = ("*.json", "*.spm", "*.txt", CARD, "*.safetensors", "pytorch_model.bin", CONVERTED)
_DECISIVE: Final = ("*.spm", "config.json", "*vocab*", "*.safetensors", "pytorch_model.bin", CONVERTED)

# Their makers release all of them under it: https://github.com/Helsinki-NLP/OPUS-MT-train/issues/12
_OPUS: Final = "Helsinki-NLP/opus-mt-"
UNKNOWN: Final = "unknown: check it before use"


@dataclass(frozen=True)
class Checkpoint:
    """The files of a model.

    Parameters
    ----------
    name
        As people know it: the name on the hub, or the folder's name without its place.
    folder
        Where the files are.
    """

    name: str
    folder: Path

    @classmethod
    def find(cls, model: str) -> "Checkpoint":
        """Find a model in a folder, in the hub's cache or on the hub.

        Raises
        ------
        UserError
            When it is nowhere, has no SentencePiece models, or translates into several languages.
        """
        folder = Path(model).expanduser()
        found = cls(folder.resolve().name, folder) if folder.is_dir() else cls(model, _fetch(model))
        for file in (SOURCE_PIECES, TARGET_PIECES):
            if not (found.folder / file).is_file():
                raise UserError(
                    f"no translation model: there is no {file}.",
                    file=found.folder,
                    remedy="Give a MarianMT checkpoint, such as Helsinki-NLP/opus-mt-es-en.",
                )
        found._refuse_several_targets()
        return found

    def _refuse_several_targets(self) -> None:
        """Refuse a model that would have to be told the language to translate into, as ``>>spa<<``."""
        for path in (self.folder / "vocab.json", self.folder / "shared_vocabulary.json"):
            pieces = json.loads(path.read_text("utf-8")) if path.is_file() else ()
            languages = sorted(piece for piece in pieces if re.fullmatch(">>.+<<", piece))
            if len(languages) > 1:
                raise UserError(
                    f"the model translates into several languages ({', '.join(languages[:3])} …).",
                    file=self.folder,
                    remedy="Choose a model of one pair of languages.",
                )

    @property
    def is_converted(self) -> bool:
        """Whether it is in CTranslate2's format."""
        return (self.folder / CONVERTED).is_file()

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the files that decide its translations."""
        digest = hashlib.sha256()
        for path in sorted({path for pattern in _DECISIVE for path in self.folder.glob(pattern)}):
            with path.open("rb") as file:
                digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()[:16]

    @property
    def licence(self) -> str:
        """The licence and who says so: the model card, or else what is known of its makers."""
        card = self.folder / CARD
        if card.is_file():
            front = re.match(r"---\n(.*?)\n---", card.read_text("utf-8", errors="replace"), re.DOTALL)
            named = re.search(r"^license:[ \t]*(\S.*)$", front[1], re.MULTILINE) if front else None
            if named:
                return f"{named[1].strip()} (its model card)"
        return "CC-BY-4.0 (the makers of OPUS-MT)" if self.name.startswith(_OPUS) else UNKNOWN


def _fetch(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(_FETCHED)))
    except (OSError, ValueError) as error:
        raise UserError(
            f"the translation model {name!r} cannot be fetched ({str(error).strip().splitlines()[0]}).",
            remedy="Give a folder that holds one, or a name that is cached or can be fetched from the hub.",
        ) from error

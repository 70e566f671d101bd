"""Machine translation of training data: MarianMT by transformers, with every translation cached on disk.

Junczys-Dowmunt et al., 2018, "Marian: Fast Neural Machine Translation in C++"; checkpoints such as
Helsinki-NLP/opus-mt-es-en. Translations are cached in an SQLite file by text and translator, so that a kill loses one
batch and a second run nothing.

Legend: ``B`` texts of a batch, ``T`` pieces.
"""

import hashlib
import re
import sqlite3
import warnings
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from transformers import GenerationConfig, MarianMTModel, MarianTokenizer

from zhichun.core.errors import UserError
from zhichun.core.files import read_json, sha256
from zhichun.core.storage import fetched

# Texts that are translated at once, and kept before the next ones.
BATCH: Final = 64
# Of a longer text only the beginning is translated; a translation without end is cut there.
MOST_PIECES: Final = 256
NEEDED: Final = ("source.spm", "target.spm", "vocab.json", "config.json")
_FETCHED: Final = ("*.json", "*.spm", "*.txt", "README.md", "*.safetensors", "pytorch_model.bin")
_DECISIVE: Final = ("*.spm", "config.json", "*vocab*", "*.safetensors", "pytorch_model.bin")
# Their makers release all of them under it: https://github.com/Helsinki-NLP/OPUS-MT-train/issues/12
_OPUS: Final = "Helsinki-NLP/opus-mt-"
_TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS translations "
    "(translator TEXT, text TEXT, translation TEXT NOT NULL, PRIMARY KEY (translator, text)) WITHOUT ROWID"
)


class Translator:
    """Translates texts from one language to another; on a GPU if there is one.

    Parameters
    ----------
    model
        A MarianMT checkpoint of one pair of languages: its name on the Hugging Face hub, or a folder.
    cache
        Cache folder of translations; several processes may share it.

    Attributes
    ----------
    name : str
        Key of the cache: model and hash of its files.
    licence : str
        The licence of the model and where it is stated.

    Raises
    ------
    UserError
        When there is no such model, it is damaged, or it translates into several languages.
    """

    def __init__(self, model: str, cache: Path) -> None:
        folder = Path(model).expanduser()
        known_as = folder.resolve().name if folder.is_dir() else model
        self._folder = folder if folder.is_dir() else fetched(model, "model", _FETCHED)
        _check(self._folder)
        self.name = f"{known_as} {_fingerprint(self._folder)} greedy"
        self.licence = _licence(self._folder, known_as)
        self._cache = cache / "translations.sqlite"
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._tokenizer, self._model = self._open()

    def __call__(self, texts: Sequence[str]) -> list[str]:
        """Translate texts, in order, each distinct one once; an empty one stays empty.

        Raises
        ------
        UserError
            When the cache cannot be read or written.
        """
        try:
            self._cache.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._cache, timeout=60)) as connection:
                connection.execute(_TABLE)
                return self._translate_new(connection, texts)
        except (OSError, sqlite3.Error) as error:
            problem = f"the cache of translations cannot be used ({error})."
            remedy = "Name another folder with --translation-cache, or delete the file if it is damaged."
            raise UserError(problem, file=self._cache, remedy=remedy) from error

    def _translate_new(self, connection: sqlite3.Connection, texts: Sequence[str]) -> list[str]:
        known = {"": ""}
        for text in {*texts} - {""}:
            where = "SELECT translation FROM translations WHERE translator = ? AND text = ?"
            if found := connection.execute(where, (self.name, text)).fetchone():
                known[text] = found[0]
        # Neighbours of similar length make batches with little padding.
        new = sorted({*texts} - known.keys(), key=lambda text: (len(text), text))
        for start in range(0, len(new), BATCH):
            batch = new[start : start + BATCH]
            made = dict(zip(batch, self._generate(batch), strict=True))
            rows = [(self.name, *pair) for pair in made.items()]
            with connection:
                connection.executemany("INSERT OR REPLACE INTO translations VALUES (?, ?, ?)", rows)
            known |= made
        return [known[text] for text in texts]

    def _generate(self, texts_B: list[str]) -> list[str]:
        """Translate one batch."""
        read = self._tokenizer(texts_B, truncation=True, max_length=MOST_PIECES, padding=True, return_tensors="pt")
        ids_BT, mask_BT = read["input_ids"].to(self._device), read["attention_mask"].to(self._device)
        with torch.inference_mode():
            made_BT = self._model.generate(input_ids=ids_BT, attention_mask=mask_BT)
        return [text.strip() for text in self._tokenizer.batch_decode(made_BT, skip_special_tokens=True)]

    def _open(self) -> tuple[Any, Any]:
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*sacremoses")  # it evens out quotes, which our texts are
                tokenizer = MarianTokenizer.from_pretrained(self._folder, trust_remote_code=False)
            model = MarianMTModel.from_pretrained(self._folder, dtype=torch.float32, trust_remote_code=False)
            model = model.to(self._device).eval()
        except ImportError as error:
            remedy = "Install it with: pip install 'zhichun[translate]'"
            raise UserError("translation needs sentencepiece, which is not installed.", remedy=remedy) from error
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            problem = f"the MarianMT model cannot be read ({error})."
            raise UserError(problem, file=self._folder, remedy="Download it again.") from error
        # The model's own generation settings are replaced as a whole: generate() would mix them in.
        model.generation_config = GenerationConfig(
            do_sample=False,
            max_new_tokens=MOST_PIECES,
            decoder_start_token_id=model.config.decoder_start_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=model.config.pad_token_id,
            bad_words_ids=[[model.config.pad_token_id]],
        )
        return tokenizer, model


def _check(folder: Path) -> None:
    """Refuse a folder that is not a MarianMT checkpoint, or one with several target languages, ``>>spa<<``."""
    for file in NEEDED:
        if not (folder / file).is_file():
            remedy = "Give a MarianMT checkpoint, such as Helsinki-NLP/opus-mt-es-en."
            raise UserError(f"no translation model: there is no {file}.", file=folder, remedy=remedy)
    pieces = read_json(folder / "vocab.json", dict, "Download it again.")
    languages = sorted(piece for piece in pieces if re.fullmatch(">>.+<<", piece))
    if len(languages) > 1:
        problem = f"the model translates into several languages ({', '.join(languages[:3])} …)."
        raise UserError(problem, file=folder, remedy="Choose a model of one pair of languages.")


def _fingerprint(folder: Path) -> str:
    """Hash the files that determine the translations."""
    paths = sorted({path for pattern in _DECISIVE for path in folder.glob(pattern)})
    hashes = [path.name.encode() + bytes.fromhex(sha256(path)) for path in paths]
    return hashlib.sha256(b"".join(hashes)).hexdigest()[:16]


def _licence(folder: Path, name: str) -> str:
    """Return the licence and its source: the model card, or a known publisher."""
    card = folder / "README.md"
    if card.is_file():
        front = re.match(r"---\n(.*?)\n---", card.read_text("utf-8", errors="replace"), re.DOTALL)
        named = re.search(r"^license:[ \t]*(\S.*)$", front[1], re.MULTILINE) if front else None
        if named:
            return f"{named[1].strip()} (its model card)"
    return "CC-BY-4.0 (the makers of OPUS-MT)" if name.startswith(_OPUS) else "unknown: check it before use"

"""Translations kept on disk by text and translator, so that a kill costs little and a second run nothing."""

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from zhichun.core.errors import UserError
from zhichun.model.translation.translator import Translator

# Translated between two commits: what a kill can cost.
CHUNK: Final = 512
_TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS translations "
    "(translator TEXT, text TEXT, translation TEXT NOT NULL, PRIMARY KEY (translator, text)) WITHOUT ROWID"
)


def default_cache() -> Path:
    """Name the folder for translations and converted models: ``zhichun`` in the user's folder for caches."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zhichun"


class CachedTranslator:
    """A translator that asks another one only for what it has not translated before.

    Parameters
    ----------
    translator
        Translates what is new.
    path
        An SQLite file, made where there is none; several processes and translators may share it.
    """

    def __init__(self, translator: Translator, path: Path) -> None:
        self._translator, self._path = translator, path

    @property
    def name(self) -> str:
        """What decides the translations."""
        return self._translator.name

    @property
    def licence(self) -> str:
        """The model's licence."""
        return self._translator.licence

    def translate(self, texts: Sequence[str]) -> list[str]:
        """Translate texts, in order, each different one once.

        Raises
        ------
        UserError
            When the file cannot be read or written.
        """
        try:
            with closing(self._open()) as connection:
                return self._translate(connection, texts)
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _open(self) -> sqlite3.Connection:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from error
        return sqlite3.connect(self._path, timeout=60)

    def _unusable(self, error: Exception) -> UserError:
        return UserError(
            f"the cache of translations cannot be used ({error}).",
            file=self._path,
            remedy="Name another place for it, or delete it if it is damaged.",
        )

    def _translate(self, connection: sqlite3.Connection, texts: Sequence[str]) -> list[str]:
        connection.execute(_TABLE)
        known = self._known(connection, texts)
        # Batches are made of neighbours, so neighbours should be of like length.
        new = sorted(set(texts) - known.keys(), key=lambda text: (len(text), text))
        for start in range(0, len(new), CHUNK):
            chunk = new[start : start + CHUNK]
            made = dict(zip(chunk, self._translator.translate(chunk), strict=True))
            rows = [(self.name, text, translation) for text, translation in made.items()]
            with connection:
                connection.executemany("INSERT OR REPLACE INTO translations VALUES (?, ?, ?)", rows)
            known |= made
        return [known[text] for text in texts]

    def _known(self, connection: sqlite3.Connection, texts: Sequence[str]) -> dict[str, str]:
        known = {}
        for text in set(texts):
            found = connection.execute(
                "SELECT translation FROM translations WHERE translator = ? AND text = ?", (self.name, text)
            ).fetchone()
            if found:
                known[text] = found[0]
        return known

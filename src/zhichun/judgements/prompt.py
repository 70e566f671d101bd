"""What a judge is told, the guideline and the form of the answer, and what it is shown: a pair, as data in tags."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from typing import Final

from zhichun.core.errors import UserError
from zhichun.core.settings import require_range
from zhichun.text.clean import clean_text
from zhichun.text.document import COLUMN_OF

# The guideline's language, by locale; English for all others.
LANGUAGES: Final = {"jp": "ja", **dict.fromkeys(("es", "mx", "ar", "cl", "co", "pe"), "es")}
PACKAGED: Final = ("en", "es", "ja")
CUT: Final = "…"
# A token has about four letters of these languages, and one sign of Japanese. A request has some besides the texts.
_LETTERS_OF_A_TOKEN: Final = 4
_TOKENS_BESIDE: Final = 12

Message = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """Turns pairs into messages.

    Attributes
    ----------
    guideline
        A file with a guideline in place of the packaged one, or ``en``, ``es`` or ``ja``, for pairs of all locales.
    letter
        Whether the label alone is asked for, by its letter; otherwise also why.
    longest
        Characters of each text that are shown at most.
    """

    guideline: str | None = None
    letter: bool = False
    longest: int = 2000

    def __post_init__(self) -> None:
        require_range(self, "longest", least=1)

    def messages(self, query: str, texts: Mapping[str, str | None], locale: str) -> list[Message]:
        """Ask for the label of a product, given by column name, for a query; nothing where it has no text."""
        words = _words(self.guideline if self.guideline in PACKAGED else LANGUAGES.get(locale, PACKAGED[0]))
        told = [self._own or words["guideline"], words["data"], words["letter" if self.letter else "reason"]]
        fields = {field: self._shown(texts.get(column) or "") for field, column in COLUMN_OF.items()}
        product = "".join(f"<{field}>{text}</{field}>\n" for field, text in fields.items() if text)
        if not product:
            return []
        shown = f"<query>{self._shown(query)}</query>\n<product>\n{product}</product>\n{words['closing']}"
        return [
            {"role": "system", "content": "\n\n".join(part.strip() for part in told)},
            {"role": "user", "content": shown},
        ]

    @cached_property
    def _own(self) -> str | None:
        return None if self.guideline is None or self.guideline in PACKAGED else _read(Path(self.guideline))

    def _shown(self, text: str) -> str:
        """Clean and cut a text, and take from it what could end the tags that it stands in."""
        text = clean_text(text)
        text = text if len(text) <= self.longest else text[: self.longest] + CUT
        return text.replace("&", "&amp;").replace("<", "&lt;")


def about_tokens(messages: Sequence[Message]) -> int:
    """Estimate the tokens of messages; each model counts them differently."""
    texts = [message["content"] for message in messages]
    plain = sum(len(text.encode("ascii", "ignore")) for text in texts)
    return plain // _LETTERS_OF_A_TOKEN + sum(map(len, texts)) - plain + _TOKENS_BESIDE


@cache
def _words(language: str) -> dict[str, str]:
    return tomllib.loads((files("zhichun.judgements") / "prompts" / f"{language}.toml").read_text("utf-8"))


def _read(path: Path) -> str:
    try:
        text = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        remedy = f"Give a text file in UTF-8, or one of {', '.join(PACKAGED)}."
        raise UserError(f"the guideline cannot be read ({error}).", file=path, remedy=remedy) from error
    if not text:
        raise UserError("the guideline is empty.", file=path, remedy="Write down what the labels mean.")
    return text

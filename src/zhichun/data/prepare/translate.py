"""The step that translates pairs of one locale into training pairs of another.

The paper translates Spanish queries and titles into English with opus-mt-es-en, and adds them to the training pairs as
locale us with weight 0.3; it measured no gain (docs/method.md: us −0.0009, es −0.0016, jp +0.0015 micro-F1). A
translated product keeps its brand, which is a name, and none of the texts that would still be in the first language.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

import polars as pl

from zhichun.core.errors import UserError
from zhichun.core.schema import BRAND, EXAMPLE_ID, LOCALE, PRODUCT_COLUMNS, PRODUCT_ID, QUERY, TITLE, WEIGHT
from zhichun.core.settings import require_range
from zhichun.data.prepare.steps import Made
from zhichun.text.clean import clean_text

# Languages whose locale is called otherwise; the locale of any other language is called as the language is.
LOCALE_OF: Final = {"en": "us", "ja": "jp"}
# Texts between two reports of progress.
CHUNK: Final = 2048

Progress = Callable[[int, int], None]


def read_direction(direction: str) -> tuple[str, str]:
    """Parse a direction of translation.

    Parameters
    ----------
    direction
        ``es:en``: two languages; a locale stands for its language (``jp:us``).

    Returns
    -------
    source, target : str
        Languages.

    Raises
    ------
    UserError
        When it has another form, or both are one language.
    """
    language_of = {locale: language for language, locale in LOCALE_OF.items()}
    source, colon, target = (language_of.get(part, part) for part in direction.strip().lower().partition(":"))
    if not (colon and source.isalpha() and target.isalpha()) or source == target:
        raise UserError(f"{direction!r} is not a translation direction.", remedy="Give two languages, such as es:en.")
    return source, target


class Translate(Protocol):
    """Translates texts, in order; an empty one stays empty."""

    name: str
    """Identifies the translations."""
    licence: str
    """The licence of its model."""

    def __call__(self, texts: Sequence[str]) -> list[str]:
        """Translate."""


@dataclass(frozen=True, kw_only=True)
class Translation:
    """Makes training pairs by translating query and title; a `zhichun.data.prepare.steps.MakingStep`.

    Parameters
    ----------
    translate
        Translates from ``source`` to ``target``, as `zhichun.model.translator.Translator` does.
    source, target
        Languages, as `read_direction` gives them.
    weight
        Factor on the weight of the pair that is translated.
    """

    name: ClassVar[str] = "translate"
    origin: ClassVar[str] = "translated"

    translate: Translate
    source: str = "es"
    target: str = "en"
    weight: float = 0.3

    def __post_init__(self) -> None:
        require_range(self, "weight", least=0, remedy="0.3 is the paper's.")

    @property
    def locales(self) -> tuple[str, str]:
        """The locale that is translated, and the one of what is made."""
        return LOCALE_OF.get(self.source, self.source), LOCALE_OF.get(self.target, self.target)

    def options(self) -> dict[str, Any]:
        """Return what the manifest records."""
        return {
            "direction": f"{self.source}:{self.target}",
            "translator": self.translate.name,
            "licence": self.translate.licence,
            "weight": self.weight,
        }

    def make(self, judged: pl.DataFrame, products: Path, marker: str, progress: Progress) -> Made:
        """Translate the judged pairs of the source locale.

        Parameters
        ----------
        judged
            Judged training pairs.
        products
            The cleaned catalogue.
        marker
            Separates a product's id and ``es-us`` in the id of its translation.
        progress
            Called with the texts that are translated and how many there are.

        Returns
        -------
        Made
            One pair for each whose query and title have a translation; a product without a title has none.
        """
        source, target = self.locales
        pairs = judged.filter(pl.col(LOCALE) == source).select(EXAMPLE_ID, QUERY, PRODUCT_ID)
        titled = _titled(products, source, pairs.select(PRODUCT_ID).unique())
        pairs = pairs.join(titled.select(PRODUCT_ID), on=PRODUCT_ID, how="semi", maintain_order="left")
        translations = self._translate({*pairs[QUERY], *titled[TITLE]}, progress)

        texts, made_texts = (pl.Series(part, dtype=pl.String) for part in (translations.keys(), translations.values()))

        def translated(name: str) -> pl.Expr:
            return pl.col(name).replace_strict(texts, made_texts, default=None, return_dtype=pl.String)

        made_id = pl.format(f"{{}}{marker}{source}-{target}", PRODUCT_ID)
        made = titled.with_columns(translated(TITLE)).drop_nulls(TITLE)
        pairs = pairs.join(made.select(PRODUCT_ID), on=PRODUCT_ID, how="semi", maintain_order="left")
        return Made(
            pairs=pairs.with_columns(
                translated(QUERY),
                made_id.alias(PRODUCT_ID),
                pl.lit(target).alias(LOCALE),
                pl.lit(self.weight, pl.Float32).alias(WEIGHT),
            ).drop_nulls(QUERY),
            products=made.with_columns(
                made_id.alias(PRODUCT_ID),
                pl.lit(target).alias(LOCALE),
                *(pl.lit(None, pl.String).alias(name) for name in PRODUCT_COLUMNS if name not in made.columns),
            ).select(PRODUCT_COLUMNS),
        )

    def _translate(self, texts: Iterable[str], progress: Progress) -> dict[str, str]:
        """Translate each text once; empty results are left out."""
        waiting = sorted(texts, key=lambda text: (len(text), text))
        made: dict[str, str] = {}
        for start in range(0, len(waiting), CHUNK):
            chunk = waiting[start : start + CHUNK]
            made |= zip(chunk, map(clean_text, self.translate(chunk)), strict=True)
            progress(start + len(chunk), len(waiting))
        return {text: translation for text, translation in made.items() if translation}


def _titled(products: Path, locale: str, wanted: pl.DataFrame) -> pl.DataFrame:
    """Read id, locale, title and brand of the wanted products of a locale that have a title."""
    return (
        pl.scan_parquet(products)
        .select(PRODUCT_ID, LOCALE, TITLE, BRAND)
        .filter((pl.col(LOCALE) == locale) & (pl.col(TITLE).fill_null("") != ""))
        .join(wanted.lazy(), on=PRODUCT_ID, how="semi", maintain_order="left")
        .collect()
    )

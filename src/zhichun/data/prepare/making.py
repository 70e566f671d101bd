"""The steps that make training pairs of judged ones: class balance, and translation.

Class balance makes more pairs of the rare labels, Complement and Irrelevant, as in the paper (docs/method.md): bullets
and description together, if long enough, are cut into equal pieces; each piece makes a new pair of the same query and
label with the document ``title + ' ' + piece``, its other fields empty, at a lower weight.

The paper translates Spanish queries and titles into English with opus-mt-es-en, and adds them to the training pairs as
locale us with weight 0.3; it measured no gain (docs/method.md: us −0.0009, es −0.0016, jp +0.0015 micro-F1). A
translated product keeps its brand, which is a name, and none of the texts that would still be in the first language.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

import polars as pl
import pyarrow.parquet as pq

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.settings import require_range
from zhichun.data.prepare.steps import Made
from zhichun.text.clean import clean_column, clean_text

# Languages whose locale is called otherwise; the locale of any other language is called as the language is.
LOCALE_OF: Final = {"en": "us", "ja": "jp"}
# Texts between two reports of progress.
CHUNK: Final = 2048
_BATCH_ROWS: Final = 65_536
_SOURCE: Final = "source"

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Rebalance:
    """Makes training pairs of the rare labels; a `zhichun.data.prepare.steps.MakingStep`.

    Parameters
    ----------
    labels
        The labels that get more pairs.
    characters
        Minimum length of bullets and description together. The pieces are shorter: ``length // characters + 1`` of
        equal length.
    characters_jp
        The same for Japanese, which needs fewer characters.
    weight
        Weight of new pairs, as a factor on the judged pair's weight.

    Raises
    ------
    UserError
        If a value cannot be.
    """

    name: ClassVar[str] = "rebalance"
    origin: ClassVar[str] = "balanced"

    labels: tuple[str, ...] = ("C", "I")
    characters: int = 800
    characters_jp: int = 300
    weight: float = 0.3

    def __post_init__(self) -> None:
        if not self.labels or not set(self.labels) <= set(schema.LABELS):
            raise UserError(f"labels={self.labels!r} are not labels", remedy=f"Possible: {', '.join(schema.LABELS)}.")
        require_range(self, "characters", "characters_jp", least=2, remedy="800 and 300 are the paper's.")
        require_range(self, "weight", least=0, remedy="0.3 is the paper's.")

    def options(self) -> dict[str, Any]:
        """Return the parameters, for the manifest."""
        return {**asdict(self), "labels": list(self.labels)}

    def make(self, judged: pl.DataFrame, products: Path, marker: str, progress: Progress) -> Made:
        """Make the pairs; see `zhichun.data.prepare.steps.MakingStep.make`."""
        keys = [schema.PRODUCT_ID, schema.LOCALE]
        rare = judged.filter(pl.col(schema.LABEL).is_in(self.labels)).select(schema.EXAMPLE_ID, schema.QUERY, *keys)
        pieces = self._cut_products(products, rare.select(keys).unique(), marker, progress)
        names = pieces.select(pl.col(_SOURCE).alias(schema.PRODUCT_ID), schema.LOCALE, piece=schema.PRODUCT_ID)
        pairs = rare.join(names, on=keys, how="inner", maintain_order="left_right")
        own = pl.col("piece").alias(schema.PRODUCT_ID), pl.lit(self.weight).alias(schema.WEIGHT)
        pairs = pairs.with_columns(own).drop("piece")
        return Made(pairs=pairs, products=pieces.select(schema.PRODUCT_COLUMNS))

    def _cut_products(self, products: Path, wanted: pl.DataFrame, marker: str, progress: Progress) -> pl.DataFrame:
        """Read the catalogue and cut the texts of those that are wanted."""
        columns = [schema.PRODUCT_ID, schema.LOCALE, schema.TITLE, schema.BULLETS, schema.DESCRIPTION]
        parts = [self._cut(pl.DataFrame(schema=dict.fromkeys(columns, pl.String)), marker)]
        done = 0
        with pq.ParquetFile(products) as file:
            for batch in file.iter_batches(_BATCH_ROWS, columns=columns):
                rows = pl.DataFrame(pl.from_arrow(batch))
                rows = rows.join(wanted, on=[schema.PRODUCT_ID, schema.LOCALE], how="semi", maintain_order="left")
                parts.append(self._cut(rows, marker))
                done += batch.num_rows
                progress(done, file.metadata.num_rows)
        return pl.concat(parts)

    def _cut(self, rows: pl.DataFrame, marker: str) -> pl.DataFrame:
        """Make a product of each piece, with the id of its product as ``source``."""
        threshold = pl.when(pl.col(schema.LOCALE) == "jp").then(self.characters_jp).otherwise(self.characters)
        text = pl.concat_str(schema.BULLETS, schema.DESCRIPTION, separator=" ", ignore_nulls=True)
        rows = rows.with_columns(text.alias("text"))
        rows = rows.with_columns(pl.col("text").str.len_chars().cast(pl.Int64).alias("length"))
        rows = rows.filter(pl.col("length") >= threshold)
        rows = rows.with_columns((pl.col("length") // threshold + 1).alias("pieces"))
        rows = rows.with_columns(pl.int_ranges(pl.col("pieces")).alias("piece")).explode("piece")
        start, end = (pl.col("length") * (pl.col("piece") + last) // pl.col("pieces") for last in (0, 1))
        rows = rows.with_columns(pl.col("text").str.slice(start, end - start).str.strip_chars())
        rows = rows.filter(pl.col("text") != "")
        number = pl.format(f"{self.origin}-{{}}", pl.col("piece") + 1)
        rows = rows.select(
            pl.col(schema.PRODUCT_ID).alias(_SOURCE),
            pl.concat_str(schema.PRODUCT_ID, pl.lit(marker), number).alias(schema.PRODUCT_ID),
            schema.LOCALE,
            pl.concat_str(schema.TITLE, "text", separator=" ", ignore_nulls=True).alias(schema.TITLE),
            *(pl.lit(None, pl.String).alias(name) for name in schema.TEXT_COLUMNS if name != schema.TITLE),
        )
        # Pieces are cut from clean text, and are clean but where markup comes about at a seam.
        return rows.with_columns(pl.Series(schema.TITLE, pl.from_arrow(clean_column(rows[schema.TITLE].to_arrow()))))


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
        pairs = judged.filter(pl.col(schema.LOCALE) == source).select(
            schema.EXAMPLE_ID, schema.QUERY, schema.PRODUCT_ID
        )
        titled = _titled(products, source, pairs.select(schema.PRODUCT_ID).unique())
        pairs = pairs.join(titled.select(schema.PRODUCT_ID), on=schema.PRODUCT_ID, how="semi", maintain_order="left")
        translations = self._translate({*pairs[schema.QUERY], *titled[schema.TITLE]}, progress)

        texts, made_texts = (pl.Series(part, dtype=pl.String) for part in (translations.keys(), translations.values()))

        def translated(name: str) -> pl.Expr:
            return pl.col(name).replace_strict(texts, made_texts, default=None, return_dtype=pl.String)

        made_id = pl.format(f"{{}}{marker}{source}-{target}", schema.PRODUCT_ID)
        made = titled.with_columns(translated(schema.TITLE)).drop_nulls(schema.TITLE)
        pairs = pairs.join(made.select(schema.PRODUCT_ID), on=schema.PRODUCT_ID, how="semi", maintain_order="left")
        return Made(
            pairs=pairs.with_columns(
                translated(schema.QUERY),
                made_id.alias(schema.PRODUCT_ID),
                pl.lit(target).alias(schema.LOCALE),
                pl.lit(self.weight, pl.Float32).alias(schema.WEIGHT),
            ).drop_nulls(schema.QUERY),
            products=made.with_columns(
                made_id.alias(schema.PRODUCT_ID),
                pl.lit(target).alias(schema.LOCALE),
                *(pl.lit(None, pl.String).alias(name) for name in schema.PRODUCT_COLUMNS if name not in made.columns),
            ).select(schema.PRODUCT_COLUMNS),
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
        .select(schema.PRODUCT_ID, schema.LOCALE, schema.TITLE, schema.BRAND)
        .filter((pl.col(schema.LOCALE) == locale) & (pl.col(schema.TITLE).fill_null("") != ""))
        .join(wanted.lazy(), on=schema.PRODUCT_ID, how="semi", maintain_order="left")
        .collect()
    )

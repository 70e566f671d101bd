"""Class balance: more training pairs of the rare labels, made by splitting the texts of their products.

As in the paper for Complement and Irrelevant (docs/method.md): bullets and description together, if long
enough, are cut into equal pieces; each piece makes a new pair of the same query and label with the document
``title + ' ' + piece``, its other fields empty, at a lower weight.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import polars as pl
import pyarrow.parquet as pq

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.settings import require_range
from zhichun.data.prepare.steps import Made
from zhichun.text.clean import clean_column

_BATCH_ROWS: Final = 65_536
_SOURCE: Final = "source"


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

    def make(self, judged: pl.DataFrame, products: Path, marker: str, progress: Callable[[int, int], None]) -> Made:
        """Make the pairs; see `zhichun.data.prepare.steps.MakingStep.make`."""
        keys = [schema.PRODUCT_ID, schema.LOCALE]
        rare = judged.filter(pl.col(schema.LABEL).is_in(self.labels)).select(schema.EXAMPLE_ID, schema.QUERY, *keys)
        pieces = self._cut_products(products, rare.select(keys).unique(), marker, progress)
        names = pieces.select(pl.col(_SOURCE).alias(schema.PRODUCT_ID), schema.LOCALE, piece=schema.PRODUCT_ID)
        pairs = rare.join(names, on=keys, how="inner", maintain_order="left_right")
        own = pl.col("piece").alias(schema.PRODUCT_ID), pl.lit(self.weight).alias(schema.WEIGHT)
        pairs = pairs.with_columns(own).drop("piece")
        return Made(pairs=pairs, products=pieces.select(schema.PRODUCT_COLUMNS))

    def _cut_products(
        self, products: Path, wanted: pl.DataFrame, marker: str, progress: Callable[[int, int], None]
    ) -> pl.DataFrame:
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

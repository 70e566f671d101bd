"""The step that drops pairs whose product is not in the catalogue."""

import polars as pl

from zhichun.core.schema import LOCALE, PRODUCT_ID
from zhichun.data.prepare.steps import Refuse
from zhichun.data.readers import rejected as reasons


def match_products(frame: pl.DataFrame, refuse: Refuse, *, products: pl.DataFrame) -> pl.DataFrame:
    """Keep the pairs whose product is there, in the pair's locale.

    Parameters
    ----------
    frame
        Pairs.
    refuse
        Takes the others; where the catalogue has their product in another locale, that is said.
    products
        ``product_id`` and ``product_locale`` of the catalogue, each once.

    Returns
    -------
    polars.DataFrame
        The pairs that are kept.
    """
    keys = [PRODUCT_ID, LOCALE]
    unknown = frame.join(products, on=keys, how="anti")
    if unknown.is_empty():
        return frame
    elsewhere = products.unique(PRODUCT_ID, keep="first").select(PRODUCT_ID, pl.col(LOCALE).alias("elsewhere"))
    unknown = unknown.select(keys).unique().with_columns(known=False).join(elsewhere, on=PRODUCT_ID, how="left")
    frame = frame.join(unknown, on=keys, how="left", maintain_order="left")
    hint = pl.format(", but there is one in {}", "elsewhere").fill_null("")
    detail = pl.format("'{}' in locale '{}'", PRODUCT_ID, LOCALE) + hint
    return refuse(frame, pl.col("known").is_not_null(), reasons.NO_PRODUCT, detail).drop("known", "elsewhere")

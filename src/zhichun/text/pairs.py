"""Pairs of a query and a product, collated into arrays batch by batch.

Legend: ``P`` pairs, ``B`` pairs of a batch, ``T`` tokens, ``N`` trigrams of all pairs of a batch.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from zhichun.core.arrays import Int32, Int64, Ragged
from zhichun.text.features import ProductFeatures, QueryFeatures
from zhichun.text.pair_layout import PairLayout, assemble, packed, padded

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Pairs:
    """P pairs as rows of query and product features.

    Parameters
    ----------
    queries, products
        Features of the distinct queries and products.
    query_row_P, product_row_P
        Which query and which product each pair joins.
    country_P
        Row of each pair's locale in the country table.
    layout
        Special tokens of a pair.
    pad_id
        The tokenizer's padding id.
    max_length
        Maximum number of tokens of a pair.
    """

    queries: QueryFeatures
    products: ProductFeatures
    query_row_P: Int32
    product_row_P: Int32
    country_P: Int32
    layout: PairLayout
    pad_id: int
    max_length: int

    def __len__(self) -> int:
        return len(self.query_row_P)

    @cached_property
    def lengths(self) -> Int64:
        """Tokens of each pair after cutting, ``[P]``."""
        query = self.queries.tokens.lengths[self.query_row_P]
        product = self.products.tokens.lengths[self.product_row_P]
        return np.minimum(query + product + self.layout.specials, self.max_length)

    def collate(self, rows: npt.NDArray[np.integer], *, pack: bool = False) -> Arrays:
        """Make the arrays of one batch.

        Parameters
        ----------
        rows
            Which pairs, ``[B]``.
        pack
            Whether the pairs are concatenated in one row.

        Returns
        -------
        dict
            ``input_ids``, ``attention_mask`` and, for encoders that use them, ``token_type_ids``, all ``[B, T]``, or
            what `pair_layout.packed` makes; ``country``, ``brand``, ``color`` ``[B]``; and for each bag of trigrams its
            ids ``[N]`` and, under ``*_offsets``, where each pair's begin and the last ends ``[B + 1]``.
        """
        query_rows, product_rows = self.query_row_P[rows], self.product_row_P[rows]
        made = self._assembled(query_rows, product_rows)
        batch: Arrays = packed(made, self.layout) if pack else padded(made, self.layout, self.pad_id)
        batch["country"] = self.country_P[rows].astype(np.int64)
        for name, ids in (("brand", self.products.brand), ("color", self.products.color)):
            if ids is not None:
                batch[name] = ids[product_rows].astype(np.int64)
        for name, bags, owners in (
            ("query_trigrams", self.queries.trigrams, query_rows),
            ("product_trigrams", self.products.trigrams, product_rows),
            ("description_trigrams", self.products.description_trigrams, product_rows),
        ):
            if bags is not None:
                batch[name], batch[f"{name}_offsets"] = _join(bags, owners)
        return batch

    def _assembled(self, query_rows: Int32, product_rows: Int32) -> list[tuple[Int32, int]]:
        queries, products = self.queries.tokens, self.products.tokens
        return [
            assemble(queries[query], products[product], self.layout, self.max_length)
            for query, product in zip(query_rows.tolist(), product_rows.tolist(), strict=True)
        ]


def _join(bags: Ragged, owners: Int32) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    rows = [bags[owner] for owner in owners.tolist()]
    offsets = np.cumsum([0, *(len(row) for row in rows)])
    return np.concatenate(rows).astype(np.int64), offsets.astype(np.int64)

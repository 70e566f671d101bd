"""Pairs of a query and a product, collated into arrays batch by batch, exactly as the encoder's tokenizer would.

Texts are truncated longest first, or each by itself. A batch is an array with padding, or one packed row. In
pre-training, texts are read by themselves too.

Legend: ``P`` pairs, ``B`` rows of a batch, ``T`` tokens of the longest, ``N`` tokens (of bags: trigrams) of all,
``V`` pieces of the vocabulary.

Of a product the model reads a document. In the paper this is title, brand, color, bullets, description with the
encoder's separator between fields; two of its ensemble's members use other orders.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from zhichun.core import schema
from zhichun.core.arrays import Int32, Int64
from zhichun.core.errors import UserError, suggest
from zhichun.text.features import Arrays, ProductFeatures, QueryFeatures, first_alike
from zhichun.text.fold import fold_locale, fold_query
from zhichun.text.tokenizer import PairLayout, PairTokenizer

FIELDS: Final = tuple(schema.COLUMN_OF)

COUNTRIES: Final = (*schema.LOCALES, "other")

Rows = Int64
Columns = Mapping[str, Sequence[str | None]]


class PairTexts(NamedTuple):
    """The texts of P pairs, the one shape in which they are scored.

    Parameters
    ----------
    queries
        Query of each pair.
    products
        Texts of each pair's product by the catalogue's column names, and what else a model reads of it; a missing
        column counts as empty.
    locales
        Locale of each pair.
    lists
        List of each pair, for models that read lists; the pairs of a query and locale if not given.
    """

    queries: Sequence[str]
    products: Columns
    locales: Sequence[str]
    lists: Sequence[Hashable] | None = None

    @property
    def of_lists(self) -> Sequence[Hashable]:
        """List of each pair; spellings of a query are one."""
        return lists_of(self.queries, self.locales) if self.lists is None else self.lists


def lists_of(queries: Sequence[str | None], locales: Sequence[str]) -> list[tuple[str, str]]:
    """Return what tells the list of each pair, however its query is spelled; empty queries are of no list."""
    return [(fold_query(query or ""), locale) for query, locale in zip(queries, locales, strict=True)]


@dataclass(frozen=True)
class ProductTexts:
    """Texts of some products, by column name of the catalogue; cleaned, an absent field is empty.

    Parameters
    ----------
    rows
        Their rows in the catalogue, which seed the random numbers of their examples.
    locales
        `us`, `es`, `jp`, or another.
    columns
        Texts by column name (`schema.TEXT_COLUMNS`).
    brands, colors
        Rows in the vocabularies of `data.prepare.vocabularies`; 0 is unknown or absent.
    """

    rows: Rows
    locales: list[str]
    columns: dict[str, list[str]]
    brands: Rows
    colors: Rows

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, places: Sequence[int]) -> "ProductTexts":
        """Pick some of the products, by place; one may be picked more than once."""
        return ProductTexts(
            rows=self.rows[list(places)],
            locales=[self.locales[place] for place in places],
            columns={name: [texts[place] for place in places] for name, texts in self.columns.items()},
            brands=self.brands[list(places)],
            colors=self.colors[list(places)],
        )


def check_fields(fields: Sequence[str]) -> tuple[str, ...]:
    """Check a user's field order.

    Raises
    ------
    UserError
        For an unknown, repeated or missing field.
    """
    for field in fields:
        if field not in schema.COLUMN_OF:
            raise UserError(f"there is no product field {field!r}.", remedy=suggest(field, schema.COLUMN_OF))
    if not fields or len(set(fields)) < len(fields):
        raise UserError(f"fields must list one or more distinct fields, not {list(fields)}.")
    return tuple(fields)


def country_index(locale: str) -> int:
    """Row of a locale, in any spelling, in the country table: us, es, jp, and one for all others."""
    folded = fold_locale(locale)
    return COUNTRIES.index(folded) if folded in schema.LOCALES else len(COUNTRIES) - 1


__all__ = ["SECOND_START", "Arrays", "Pairs", "TextReader", "assemble", "packed", "padded", "truncated_lengths"]

SECOND_START: Final = "second_start"


def truncated_lengths(first: int, second: int, room: int) -> tuple[int, int]:
    """Truncate two texts to a joint length, longest first, like the `tokenizers` library except for one token.

    Text beyond that length is never needed, so long texts need not be tokenised completely: of two texts that
    each fill it alone, the second gets the odd token, and in the library the longer.
    """
    first, second = min(first, max(0, room)), min(second, max(0, room))
    if first + second <= room:
        return first, second
    short, long = min(first, second), max(first, second)
    long = max(short, room - short)
    if short + long > room:
        short = room // 2
        long = short + room % 2
    return (short, long) if first <= second else (long, short)


def assemble(query: Int32, product: Int32, layout: PairLayout, max_length: int) -> tuple[Int32, int]:
    """Assemble a pair from the token ids of its two texts; returns it, and where its second segment begins."""
    if layout.query_tokens is not None:
        segments = layout.segments(query, product, max_length)
        return np.concatenate(segments), len(segments[0])
    keep_query, keep_product = truncated_lengths(len(query), len(product), max_length - layout.specials)
    prefix, middle, suffix = (np.asarray(ids, np.int32) for ids in (layout.prefix, layout.middle, layout.suffix))
    ids_T = np.concatenate([prefix, query[:keep_query], middle, product[:keep_product], suffix])
    return ids_T, len(prefix) + keep_query + len(middle)


def padded(rows: Sequence[tuple[Int32, int]], layout: PairLayout, pad_id: int) -> dict[str, Int64]:
    """Build the encoder's input arrays, padded.

    Parameters
    ----------
    rows
        Ids of each row and where its second token type begins.
    layout, pad_id
        Of the tokenizer.

    Returns
    -------
    dict
        ``input_ids``, ``attention_mask`` and, for encoders that use them, ``token_type_ids``, all ``[B, T]``; for
        models that read query and product apart also ``second_start`` ``[B]``.
    """
    longest = max((len(ids) for ids, _ in rows), default=1)
    ids_BT = np.full((len(rows), longest), pad_id, np.int64)
    mask_BT = np.zeros((len(rows), longest), np.int64)
    types_BT = np.full((len(rows), longest), layout.first_type, np.int64)
    for row, (ids, second_start) in enumerate(rows):
        ids_BT[row, : len(ids)] = ids
        mask_BT[row, : len(ids)] = 1
        types_BT[row, second_start : len(ids)] = layout.second_type
    batch = {"input_ids": ids_BT, "attention_mask": mask_BT}
    if layout.first_type != layout.second_type:
        batch["token_type_ids"] = types_BT
    return batch | _second_starts(rows, layout)


def packed(rows: Sequence[tuple[Int32, int]], layout: PairLayout) -> dict[str, npt.NDArray[Any]]:
    """Build the encoder's input arrays with all rows concatenated into one, without padding.

    Parameters
    ----------
    rows
        Ids of each row and where its second token type begins.
    layout
        Of the tokenizer.

    Returns
    -------
    dict
        ``input_ids`` and, for encoders that use them, ``token_type_ids``, both ``[1, N]``; ``bounds``, where each row
        begins and the last one ends, ``[B + 1]``, int32; ``longest``, the length of the longest row; ``second_start``
        as in `padded`.
    """
    lengths_B = np.fromiter((len(ids) for ids, _ in rows), np.int32, len(rows))
    bounds = np.concatenate([[0], np.cumsum(lengths_B)]).astype(np.int32)
    batch: dict[str, npt.NDArray[Any]] = {
        "input_ids": np.concatenate([ids for ids, _ in rows])[None].astype(np.int64),
        "bounds": bounds,
        "longest": np.asarray(lengths_B.max(), np.int64),
    }
    if layout.first_type != layout.second_type:
        batch["token_type_ids"] = types_1N = np.full((1, bounds[-1]), layout.first_type, np.int64)
        for start, end, (_, second_start) in zip(bounds, bounds[1:], rows, strict=False):
            types_1N[0, start + second_start : end] = layout.second_type
    return batch | _second_starts(rows, layout)


def _second_starts(rows: Sequence[tuple[Int32, int]], layout: PairLayout) -> dict[str, Int64]:
    """Say where each row's second segment begins, for models that read the two apart."""
    return {} if layout.query_tokens is None else {SECOND_START: np.asarray([start for _, start in rows], np.int64)}


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
    list_P
        List of each pair, for models that read lists; that of its query if not given.
    """

    queries: QueryFeatures
    products: ProductFeatures
    query_row_P: Int32
    product_row_P: Int32
    country_P: Int32
    layout: PairLayout
    pad_id: int
    max_length: int
    list_P: Int32 | None = None

    def __len__(self) -> int:
        return len(self.query_row_P)

    @property
    def lists(self) -> Int32:
        """List of each pair, ``[P]``."""
        return self.query_row_P if self.list_P is None else self.list_P

    @cached_property
    def lengths(self) -> Int64:
        """Tokens of each pair after cutting, ``[P]``."""
        query = self.queries.tokens.lengths[self.query_row_P]
        return self.layout.lengths(query, self.products.tokens.lengths[self.product_row_P], self.max_length)

    def alike(self, rows: npt.NDArray[np.integer]) -> tuple[Int64 | Int32, ...]:
        """Return numbers, ``[B]`` each, that are equal for those of some pairs of which the model reads the same."""
        query_B = first_alike(self.queries, self.query_row_P[rows], self.max_length)
        return query_B, self.country_P[rows], first_alike(self.products, self.product_row_P[rows], self.max_length)

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
            What `padded` or `packed` makes of the tokens; ``country``, ``brand``, ``color`` ``[B]``; and for each bag
            of trigrams its ids ``[N]`` and, under ``*_offsets``, where each pair's begin and the last ends ``[B + 1]``.
        """
        query_rows, product_rows = self.query_row_P[rows], self.product_row_P[rows]
        made = self._assembled(query_rows, product_rows)
        batch: Arrays = packed(made, self.layout) if pack else padded(made, self.layout, self.pad_id)
        batch["country"] = self.country_P[rows].astype(np.int64)
        batch |= self.queries.side(query_rows) | self.products.side(product_rows)
        return batch

    def _assembled(self, query_rows: Int32, product_rows: Int32) -> list[tuple[Int32, int]]:
        queries, products = self.queries.tokens, self.products.tokens
        return [
            assemble(queries[query], products[product], self.layout, self.max_length)
            for query, product in zip(query_rows.tolist(), product_rows.tolist(), strict=True)
        ]


@dataclass(frozen=True)
class TextReader:
    """A tokenizer with the encoder's input layout.

    Parameters
    ----------
    tokenizer
        The encoder's tokenizer.
    fields
        The order of a document's fields.
    max_length
        Tokens that the encoder reads at once, special tokens included.
    """

    tokenizer: PairTokenizer
    fields: tuple[str, ...]
    max_length: int

    @cached_property
    def special_ids(self) -> Rows:
        """Ids that are never masked."""
        return np.asarray(sorted(self.tokenizer.special_ids), np.int64)

    def tokens(self, texts: Sequence[str]) -> list[Int32]:
        """Tokenise texts without special tokens."""
        rows = self.tokenizer.encode(texts)
        return [rows[row] for row in range(len(rows))]

    def documents(self, texts: ProductTexts) -> list[Int32]:
        """Tokenise products as fine-tuning does: the fields joined by separators, not cut."""
        rows = self.tokenizer.encode_documents([texts.columns[schema.COLUMN_OF[field]] for field in self.fields])
        return [rows[row] for row in range(len(rows))]

    def singles(self, tokens: Sequence[Int32]) -> Arrays:
        """Make the arrays of one text each, cut to ``max_length``; its token type is that of a pair's second text.

        Returns
        -------
        dict
            ``input_ids``, ``attention_mask`` and, where they are used, ``token_type_ids``, all ``[B, T]``.
        """
        layout = self.tokenizer.layout
        prefix, suffix = np.asarray(layout.prefix, np.int32), np.asarray(layout.suffix, np.int32)
        room = self.max_length - len(prefix) - len(suffix)
        rows = [(np.concatenate([prefix, ids[:room], suffix]), len(prefix)) for ids in tokens]
        return padded(rows, replace(layout, query_tokens=None), self.tokenizer.pad_id)

    def pairs(self, first: Sequence[Int32], second: Sequence[Int32]) -> Arrays:
        """Make the same of pairs, cut as the layout says, the longer side first where it says nothing."""
        layout = self.tokenizer.layout
        rows = [assemble(one, other, layout, self.max_length) for one, other in zip(first, second, strict=True)]
        return padded(rows, layout, self.tokenizer.pad_id)

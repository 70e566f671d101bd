"""Assembles pairs from the token ids of their two texts, exactly as the encoder's own tokenizer would.

The special tokens are read from the tokenizer once; texts are truncated longest first. A batch of pairs is an
array with padding, or one packed row.

Legend: ``B`` rows of a batch, ``T`` tokens of the longest, ``N`` tokens of all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from zhichun.core.arrays import Int32
from zhichun.core.errors import UserError


@dataclass(frozen=True)
class PairLayout:
    """The special tokens that a tokenizer puts around the two texts of a pair.

    Parameters
    ----------
    prefix, middle, suffix
        Ids before the first text, between the two, and after the second.
    first_type, second_type
        Token type of each text with the special tokens that close it.
    """

    prefix: tuple[int, ...]
    middle: tuple[int, ...]
    suffix: tuple[int, ...]
    first_type: int
    second_type: int

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "PairLayout":
        """Read the special tokens from an encoded pair, for any post-processor.

        Raises
        ------
        UserError
            When there are none between the two texts.
        """
        encoding = tokenizer.encode("a", "b")
        sides = encoding.sequence_ids
        if 0 not in sides or 1 not in sides or None not in sides:
            raise UserError(
                "the tokenizer does not separate two texts with special tokens.",
                remedy="Use the tokenizer of an encoder trained on pairs of texts (XLM-R, BERT, DeBERTa, ModernBERT).",
            )
        first, second = sides.index(0), sides.index(1)
        first_end = len(sides) - 1 - sides[::-1].index(0)
        second_end = len(sides) - 1 - sides[::-1].index(1)
        ids, types = encoding.ids, encoding.type_ids
        return cls(
            prefix=tuple(ids[:first]),
            middle=tuple(ids[first_end + 1 : second]),
            suffix=tuple(ids[second_end + 1 :]),
            first_type=types[first],
            second_type=types[second],
        )

    @property
    def specials(self) -> int:
        """Number of special tokens of a pair."""
        return len(self.prefix) + len(self.middle) + len(self.suffix)


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
    """Assemble a pair from the token ids of its two texts."""
    keep_query, keep_product = truncated_lengths(len(query), len(product), max_length - layout.specials)
    prefix, middle, suffix = (np.asarray(ids, np.int32) for ids in (layout.prefix, layout.middle, layout.suffix))
    ids_T = np.concatenate([prefix, query[:keep_query], middle, product[:keep_product], suffix])
    return ids_T, len(prefix) + keep_query + len(middle)


def padded(rows: Sequence[tuple[Int32, int]], layout: PairLayout, pad_id: int) -> dict[str, npt.NDArray[np.int64]]:
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
        ``input_ids``, ``attention_mask`` and, for encoders that use them, ``token_type_ids``, all ``[B, T]``.
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
    return batch


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
        begins and the last one ends, ``[B + 1]``, int32; and ``longest``, the length of the longest row.
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
    return batch

"""Pairs put together from the ids of their two texts, as the encoder's own tokenizer would have made them.

The special tokens around the two are read off the tokenizer once; texts are cut longest first. A batch of pairs is an
array with padding, or one row without.

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
        """Read the special tokens off an encoded pair, whatever post-processor made them.

        Raises
        ------
        UserError
            When there are none between the two texts.
        """
        encoding = tokenizer.encode("a", "b")
        sides = encoding.sequence_ids
        if 0 not in sides or 1 not in sides or None not in sides:
            raise UserError(
                "the tokenizer does not join two texts with special tokens.",
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
        """How many special tokens a pair carries."""
        return len(self.prefix) + len(self.middle) + len(self.suffix)


def truncated_lengths(first: int, second: int, room: int) -> tuple[int, int]:
    """Cut two texts to a common room, the longest first, as the `tokenizers` library does, but for one token.

    What lies beyond the room is never asked for, so that long texts need not be tokenised whole: of two texts that
    each fill it alone, the second gets the odd token, where the library gives it to the longer.

    Parameters
    ----------
    first, second
        Lengths in tokens.
    room
        Tokens left for both together.

    Returns
    -------
    tuple[int, int]
        The lengths to keep. When both are longer than half the room, each gets half, the longer the odd token.
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
    """Put a pair together from the ids of its two texts.

    Returns
    -------
    ids_T
        Ids with special tokens, at most ``max_length``.
    second_start
        Where the second text's token type begins.
    """
    keep_query, keep_product = truncated_lengths(len(query), len(product), max_length - layout.specials)
    prefix, middle, suffix = (np.asarray(ids, np.int32) for ids in (layout.prefix, layout.middle, layout.suffix))
    ids_T = np.concatenate([prefix, query[:keep_query], middle, product[:keep_product], suffix])
    return ids_T, len(prefix) + keep_query + len(middle)


def padded(rows: Sequence[tuple[Int32, int]], layout: PairLayout, pad_id: int) -> dict[str, npt.NDArray[np.int64]]:
    """Make the arrays of a batch that the encoder reads.

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
    """Make the arrays of a batch whose rows stand end to end in one, without padding.

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

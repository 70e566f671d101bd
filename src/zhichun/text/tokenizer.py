"""Tokens once: texts to ids apart from each other, pairs put together from ids.

A query and a product are each tokenised once; a pair's ids are then slices of the two with the encoder's own special
tokens around them, cut longest first, exactly as the tokenizer itself would have made them from the pair of texts.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from zhichun.errors import UserError
from zhichun.text.ragged import Int32, Ragged

# The names that XLM-R's and BERT's families give these tokens.
PADDING: Final = ("<pad>", "[PAD]")
UNKNOWN: Final = ("<unk>", "[UNK]")
MASK: Final = ("<mask>", "[MASK]")
WORD_MARKS: Final = ("▁", "Ġ")
UNSPACED: Final = re.compile(r"▁?[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f]")


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

    @property
    def specials(self) -> int:
        """How many special tokens a pair carries."""
        return len(self.prefix) + len(self.middle) + len(self.suffix)


class PairTokenizer:
    """A fast tokenizer that keeps the two texts of a pair apart until a batch needs them.

    Parameters
    ----------
    tokenizer
        Any tokenizer of the `tokenizers` library whose post-processor knows pairs, as those of XLM-R, BERT, DeBERTa-v2
        and ModernBERT do. Its truncation and padding are switched off.
    json
        The text of the file that it was read from; kept, since writing what was read can change a score's last digit.

    Raises
    ------
    UserError
        When it adds no special token to a pair, so that query and product could not be told apart.
    """

    def __init__(self, tokenizer: Tokenizer, json: str | None = None) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.tokenizer = tokenizer
        self.json = tokenizer.to_str() if json is None else json
        self.layout = _probe_layout(tokenizer)
        special = {id_: token.content for id_, token in tokenizer.get_added_tokens_decoder().items() if token.special}
        self.special_ids = tuple(special)
        self._special_texts = tuple(special.values())
        self._special_ids = [id_ for id_, content in special.items() if content not in UNKNOWN]

    @classmethod
    def load(cls, folder: Path) -> "PairTokenizer":
        """Load ``tokenizer.json`` from a folder.

        Raises
        ------
        UserError
            When it is missing or cannot be read.
        """
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise UserError("there is no tokenizer.json.", file=folder, remedy="Name a folder with a fast tokenizer.")
        try:
            text = path.read_text("utf-8")
            return cls(Tokenizer.from_str(text), text)
        except UserError:
            raise
        except Exception as error:  # the library raises bare Exception for every fault of the file
            raise UserError(f"not a readable tokenizer ({error}).", file=path) from error

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json`` into a folder."""
        (folder / "tokenizer.json").write_text(self.json, "utf-8")

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that decides which ids a text gets."""
        return hashlib.sha256(self.json.encode()).hexdigest()[:16]

    @property
    def pad_id(self) -> int:
        """Id that fills a row up to the batch's longest; never read, since it is masked."""
        return self._first_known(PADDING) or 0

    @property
    def mask_id(self) -> int:
        """Id that stands where a token was masked.

        Raises
        ------
        UserError
            When the tokenizer has none.
        """
        found = self._first_known(MASK)
        if found is None:
            raise UserError(
                "the encoder's tokenizer has no token for masking.",
                remedy="Name an encoder that was trained with masks (XLM-R, BERT), or leave objective.mlm out.",
            )
        return found

    @cached_property
    def word_starts_V(self) -> npt.NDArray[np.bool_]:
        """For each piece of the vocabulary whether a word begins with it, ``[V]``.

        SentencePiece marks the first piece of a word with ``▁``, byte-level BPE with ``Ġ``, WordPiece all others with
        ``##``. Japanese and Chinese are written without spaces: there every piece counts as a word.
        """
        pieces = self.tokenizer.get_vocab()
        starts_V = np.zeros(max(pieces.values()) + 1, np.bool_)
        within = getattr(self.tokenizer.model, "continuing_subword_prefix", None)  # of WordPiece and some BPE
        for piece, id_ in pieces.items():
            first = not piece.startswith(within) if within else piece.startswith(WORD_MARKS)
            starts_V[id_] = first or bool(UNSPACED.match(piece))
        return starts_V

    def _first_known(self, names: Sequence[str]) -> int | None:
        ids = map(self.tokenizer.token_to_id, names)
        return next((id_ for id_ in ids if id_ is not None), None)

    def special_names(self) -> dict[str, str]:
        """Name the special tokens as transformers calls them: ``cls_token``, ``sep_token``, ``pad_token`` and so on."""
        ids = {
            "cls_token": next(iter(self.layout.prefix), None),
            "sep_token": next(iter(self.layout.suffix[::-1]), None),
            "pad_token": self._first_known(PADDING),
            "unk_token": self._first_known(UNKNOWN),
            "mask_token": self._first_known(MASK),
        }
        return {name: str(self.tokenizer.id_to_token(id_)) for name, id_ in ids.items() if id_ is not None}

    def encode(self, texts: Sequence[str]) -> Ragged:
        """Tokenise texts without special tokens; special tokens that stand in a text as words are not obeyed.

        Returns
        -------
        Ragged
            One row of ids for each text.
        """
        encodings = self.tokenizer.encode_batch_fast([self._plain(text) for text in texts], add_special_tokens=False)
        # A normaliser can make special tokens out of full-width letters, which the raw text did not show.
        return Ragged.from_rows([encoding.ids for encoding in encodings]).without(self._special_ids)

    def encode_documents(self, columns: Sequence[Sequence[str]]) -> Ragged:
        """Tokenise products field by field and join the fields with the separator of pairs.

        An empty field keeps its separator, so that the position of a field always tells which it is.

        Parameters
        ----------
        columns
            One column of texts for each field, in the template's order.
        """
        parts = [self.encode(column) for column in columns]
        middle = np.asarray(self.layout.middle, np.int32)
        pieces = [middle] * (2 * len(parts) - 1)
        values: list[Int32] = []
        rows = len(parts[0])
        for row in range(rows):
            pieces[::2] = [part[row] for part in parts]
            values.extend(pieces)
        lengths = np.sum([part.lengths for part in parts], axis=0) + (len(parts) - 1) * len(middle)
        offsets_R1 = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        return Ragged.from_flat(np.concatenate(values) if values else np.zeros(0, np.int32), offsets_R1)

    def _plain(self, text: str) -> str:
        for special in self._special_texts:
            if special in text:
                text = text.replace(special, " ")
        return text


def truncated_lengths(first: int, second: int, room: int) -> tuple[int, int]:
    """Cut two texts to a common room, the longest first, as the `tokenizers` library does.

    Parameters
    ----------
    first, second
        Lengths in tokens.
    room
        Tokens left for both together.

    Returns
    -------
    tuple[int, int]
        The lengths to keep. When both are longer than half the room, each gets half, the longer the odd one.
    """
    if first + second <= room:
        return first, second
    short, long = min(first, second), max(first, second)
    long = short if short > room else max(short, room - short)
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


def _probe_layout(tokenizer: Tokenizer) -> PairLayout:
    """Read the pair's special tokens off an encoded pair, whatever post-processor made them."""
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
    return PairLayout(
        prefix=tuple(ids[:first]),
        middle=tuple(ids[first_end + 1 : second]),
        suffix=tuple(ids[second_end + 1 :]),
        first_type=types[first],
        second_type=types[second],
    )

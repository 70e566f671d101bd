"""Tokens once: texts to ids apart from each other, pairs put together from ids.

A query and a product are each tokenised once; a pair's ids are then slices of the two with the encoder's own special
tokens around them, cut longest first, exactly as the tokenizer itself would have made them from the pair of texts.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from tokenizers import Tokenizer

from zhichun.errors import UserError
from zhichun.text.ragged import Int32, Ragged

# The names that XLM-R's and BERT's families give these tokens.
PADDING: Final = ("<pad>", "[PAD]")
UNKNOWN: Final = ("<unk>", "[UNK]")


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
        for name in PADDING:
            found = self.tokenizer.token_to_id(name)
            if found is not None:
                return found
        return 0

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

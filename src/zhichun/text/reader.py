"""Reads products for the encoder: texts to ids and ids to batches, as in fine-tuning.

Legend: ``B`` texts of a batch, ``T`` tokens, ``V`` pieces of the vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from zhichun.core.arrays import Int32
from zhichun.text.document import COLUMN_OF, ProductTexts, Rows
from zhichun.text.pair_layout import assemble, padded
from zhichun.text.tokenizer import PairTokenizer

Arrays = dict[str, npt.NDArray[np.int64]]


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

    @property
    def mask_id(self) -> int:
        """The tokenizer's mask; a `UserError` where it has none."""
        return self.tokenizer.mask_id

    @cached_property
    def special_ids(self) -> Rows:
        """Ids that are never masked."""
        return np.asarray(sorted(self.tokenizer.special_ids), np.int64)

    @property
    def word_starts_V(self) -> npt.NDArray[np.bool_]:
        """For each piece of the vocabulary whether a word begins with it, ``[V]``."""
        return self.tokenizer.word_starts_V

    @property
    def pieces(self) -> int:
        """Size of the vocabulary, ``V``."""
        return len(self.tokenizer.word_starts_V)

    def tokens(self, texts: Sequence[str]) -> list[Int32]:
        """Tokenise texts without special tokens."""
        rows = self.tokenizer.encode(texts)
        return [rows[row] for row in range(len(rows))]

    def documents(self, texts: ProductTexts) -> list[Int32]:
        """Tokenise products as fine-tuning does: the fields joined by separators, not cut."""
        rows = self.tokenizer.encode_documents([texts.columns[COLUMN_OF[field]] for field in self.fields])
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
        return padded(rows, layout, self.tokenizer.pad_id)

    def pairs(self, first: Sequence[Int32], second: Sequence[Int32]) -> Arrays:
        """Make the same of pairs, cut to ``max_length``, the longer side first."""
        layout = self.tokenizer.layout
        rows = [assemble(one, other, layout, self.max_length) for one, other in zip(first, second, strict=True)]
        return padded(rows, layout, self.tokenizer.pad_id)

"""Tokenises each text once, separately from its pair.

A query and a product are each tokenised once; `zhichun.text.pairs` assembles a pair from the two, with the special
tokens that are read from the tokenizer here.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import WordPiece

from zhichun.core.arrays import Bools, Int32, Int64, Ragged
from zhichun.core.errors import UserError

# The names that XLM-R's and BERT's families give these tokens.
PADDING: Final = ("<pad>", "[PAD]")
UNKNOWN: Final = ("<unk>", "[UNK]")
MASK: Final = ("<mask>", "[MASK]")
WORD_MARKS: Final = ("▁", "Ġ")
UNSPACED: Final = re.compile(r"▁?[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f]")
# What is read of a long text at first: more than most tokens have, of any language.
CHARACTERS_PER_TOKEN: Final = 8
# Texts whose tokens are made with their places at once: these take a hundred times the memory of the text.
AT_ONCE: Final = 64


@dataclass(frozen=True)
class PairLayout:
    """The special tokens that a tokenizer puts around the two texts of a pair.

    Parameters
    ----------
    prefix, middle, suffix
        Ids before the first text, between the two, and after the second.
    first_type, second_type
        Token type of each text with the special tokens that close it.
    query_tokens
        Tokens of the query's segment at most, for models that read query and product apart (`model.interaction`): the
        product's segment has the rest of a pair's, so that it never depends on the query. ``None`` cuts the longer one.
    """

    prefix: tuple[int, ...]
    middle: tuple[int, ...]
    suffix: tuple[int, ...]
    first_type: int
    second_type: int
    query_tokens: int | None = None

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
            remedy = "Use the tokenizer of an encoder trained on pairs of texts (XLM-R, BERT, DeBERTa, ModernBERT)."
            raise UserError("the tokenizer does not separate two texts with special tokens.", remedy=remedy)
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

    @property
    def query_specials(self) -> int:
        """Number of special tokens of the query's segment, which ends with the first separator."""
        return len(self.prefix) + min(1, len(self.middle))

    def lengths(self, query_P: Int64, product_P: Int64, max_length: int) -> Int64:
        """Count the tokens of pairs after cutting, ``[P]``."""
        if self.query_tokens is None:
            return np.minimum(query_P + product_P + self.specials, max_length)
        query_P = np.minimum(query_P + self.query_specials, self.query_tokens)
        product_P = np.minimum(product_P + self.specials - self.query_specials, max_length - self.query_tokens)
        return query_P + product_P

    def segments(self, query: Int32, product: Int32, max_length: int) -> tuple[Int32, Int32]:
        """Cut two texts separately and return the segments of query and product with their special tokens."""
        assert self.query_tokens is not None
        prefix, middle, suffix = (np.asarray(ids, np.int32) for ids in (self.prefix, self.middle, self.suffix))
        query = query[: self.query_tokens - self.query_specials]
        product = product[: max_length - self.query_tokens - (self.specials - self.query_specials)]
        return np.concatenate([prefix, query, middle[:1]]), np.concatenate([middle[1:], product, suffix])


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
        When it adds no special token to a pair, so that query and product cannot be distinguished.
    """

    def __init__(self, tokenizer: Tokenizer, json: str | None = None) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.tokenizer = tokenizer
        self.json = tokenizer.to_str() if json is None else json
        self.layout = PairLayout.of(tokenizer)
        special = {id_: token.content for id_, token in tokenizer.get_added_tokens_decoder().items() if token.special}
        self.special_ids = tuple(special)
        self._special_texts = tuple(special.values())
        self._special_ids = [id_ for id_, content in special.items() if content not in UNKNOWN]

    def apart(self, query_tokens: int | None) -> "PairTokenizer":
        """Return this tokenizer for models that read query and product apart; ``None`` returns it for all others."""
        other = copy(self)
        other.layout = replace(self.layout, query_tokens=query_tokens)
        return other

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
        """Hash of everything that determines a text's ids."""
        return hashlib.sha256(self.json.encode()).hexdigest()[:16]

    @property
    def pad_id(self) -> int:
        """Padding id; it is masked."""
        return self._first_known(PADDING) or 0

    @property
    def mask_id(self) -> int:
        """Id of the mask token.

        Raises
        ------
        UserError
            When the tokenizer has none.
        """
        found = self._first_known(MASK)
        if found is None:
            remedy = "Use a masked language model (XLM-R, BERT), or leave objective.mlm out."
            raise UserError("the encoder's tokenizer has no mask token.", remedy=remedy)
        return found

    @cached_property
    def word_starts_V(self) -> Bools:
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
        return next((id_ for id_ in map(self.tokenizer.token_to_id, names) if id_ is not None), None)

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

    def encode(self, texts: Sequence[str], most: int | None = None) -> Ragged:
        """Tokenise texts without special tokens; special tokens in a text are treated as plain text.

        Parameters
        ----------
        texts
            Cleaned texts.
        most
            Maximum number of tokens of each text; the rest is not tokenised. ``None`` is all.

        Returns
        -------
        Ragged
            One row of ids for each text.
        """
        plain = [self.plain(text) for text in texts]
        if most is None:
            return self._ids(plain)
        return Ragged.from_rows([row[:most] for row in self._first(plain, most, self._ids)])

    def token_ends(self, texts: Sequence[str], most: int) -> list[list[int]]:
        """Return the end of the first ``most`` tokens of each cleaned text, in characters."""

        def ends(parts: Sequence[str]) -> list[list[int]]:
            chunks = (parts[start : start + AT_ONCE] for start in range(0, len(parts), AT_ONCE))
            encoded = (
                each for chunk in chunks for each in self.tokenizer.encode_batch(chunk, add_special_tokens=False)
            )
            return [[end for _, end in encoding.offsets[:most]] for encoding in encoded]

        return self._first(texts, most, ends)

    def _first(self, texts: Sequence[str], most: int, read: Callable[[Sequence[str]], Any]) -> list[Any]:
        """Tokenise the beginning of each text, and more of it if that has too few tokens."""
        rows: dict[int, Any] = {}
        left, characters = list(range(len(texts))), most
        while left:
            characters *= CHARACTERS_PER_TOKEN
            parts = [self.beginning(texts[row], characters) for row in left]
            found = read(parts)
            rows |= {row: found[place] for place, row in enumerate(left)}
            left = [
                row
                for row, part in zip(left, parts, strict=True)
                if len(rows[row]) < most and len(part) < len(texts[row])
            ]
        return [rows[row] for row in range(len(texts))]

    def _ids(self, texts: Sequence[str]) -> Ragged:
        encodings = self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        # A normaliser can make special tokens out of full-width letters, which the raw text did not show.
        return Ragged.from_rows([encoding.ids for encoding in encodings]).without(self._special_ids)

    def beginning(self, text: str, characters: int) -> str:
        """Return the words of a text that begin within this many characters.

        If the tokenizer splits at spaces, text after a space changes no token before it.
        """
        end = text.find(" ", characters) if len(text) > characters and self._splits_at_spaces else -1
        return text if end < 0 else text[:end]

    @cached_property
    def _splits_at_spaces(self) -> bool:
        """Whether no token spans two words, which happens in some language models."""
        splitter = self.tokenizer.pre_tokenizer
        return splitter is not None and len(splitter.pre_tokenize_str("a b")) > 1

    def encode_documents(self, columns: Sequence[Sequence[str]], most: int | None = None) -> Ragged:
        """Tokenise products field by field and join the fields with the separator of pairs.

        An empty field keeps its separator, so that the position identifies the field.

        Parameters
        ----------
        columns
            One column of texts for each field, in the template's order.
        most
            As in `encode`.
        """
        parts = [self.encode(column, most) for column in columns]
        pieces = [np.asarray(self.layout.middle, np.int32)] * (2 * len(parts) - 1)
        rows: list[Int32] = []
        for row in range(len(parts[0])):
            pieces[::2] = [part[row] for part in parts]
            rows.append(np.concatenate(pieces)[:most])
        return Ragged.from_rows(rows)

    @cached_property
    def separator(self) -> str:
        """What stands between two fields in a text that other software tokenises as `encode_documents` does."""
        tokens = "".join(str(self.tokenizer.id_to_token(id_)) for id_ in self.layout.middle)
        return f" {tokens} " if isinstance(self.tokenizer.model, WordPiece) else tokens

    def plain(self, text: str) -> str:
        """Replace special tokens in a text, which would not be read as text."""
        for special in self._special_texts:
            if special in text:
                text = text.replace(special, " ")
        return text

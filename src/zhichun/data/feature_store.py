"""What is computed of a dataset once and kept in its folder: the features of its texts, and a tokenizer.

Features of queries and products are memory-mapped Arrow in ``features/<fingerprint>/``; the fingerprint is a hash of
tokenizer, template, vocabularies and of the dataset itself, so that runs with equal ones share the features.

The tokenizer is for an encoder without pre-trained weights: Unigram in the shape of XLM-R's, trained on the catalogue.
Nothing is downloaded, and its pieces fit the shop's language.

The catalogue is there for random access by row: texts, locale, brand and color. The texts are copied to
``catalogue/<fingerprint>/`` of the dataset folder, uncompressed and memory-mapped; the fingerprint is a hash of the
dataset and of its vocabularies. Products that a step of `zhichun prepare` made of others are not among those that are
pre-trained on.

Legend: ``R`` products, ``P`` pairs of a product and one of its queries.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from zhichun.core import schema
from zhichun.core.arrays import Int32, Ragged, map_batches, write_batches
from zhichun.core.errors import UserError
from zhichun.core.files import new_file, new_folder
from zhichun.data.dataset import BATCH_ROWS, Dataset, Progress, no_progress, product_keys
from zhichun.text.features import Featurizer, ProductFeatures, QueryFeatures
from zhichun.text.pairs import Pairs, ProductTexts, Rows
from zhichun.text.tokenizer import PairTokenizer
from zhichun.text.vocabulary import Vocabulary

SPECIALS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
DIGITS = 4


def open_pairs(dataset: Dataset, featurizer: Featurizer, max_length: int, progress: Progress | None = None) -> Pairs:
    """Open the features of all pairs of a dataset; computes them the first time.

    Parameters
    ----------
    dataset, featurizer
        The dataset and its featurizer.
    max_length
        Maximum number of tokens of a pair in a batch; stored features are not truncated.
    progress
        Called with (what, done, total) while features are computed.
    """
    folder = dataset.folder / "features" / dataset.fingerprint(featurizer.fingerprint, *dataset.pool)
    if not folder.is_dir():
        with new_folder(folder, first_wins=True) as partial:
            for name, batches in (("queries", _query_batches), ("products", _product_batches)):
                write_batches(partial / f"{name}.arrow", batches(dataset, featurizer, progress or no_progress))
    queries, products = (_open(folder / f"{name}.arrow") for name in ("queries", "products"))
    return Pairs(
        queries=QueryFeatures(queries["tokens"], queries.get("trigrams")),
        products=ProductFeatures(
            tokens=products["tokens"],
            trigrams=products.get("trigrams"),
            description_trigrams=products.get("description_trigrams"),
            brand=products.get("brand"),
            color=products.get("color"),
        ),
        query_row_P=dataset.query_row,
        product_row_P=dataset.product_row,
        country_P=dataset.country,
        layout=featurizer.tokenizer.layout,
        pad_id=featurizer.tokenizer.pad_id,
        max_length=max_length,
        list_P=dataset.list_row,
    )


def _query_batches(dataset: Dataset, featurizer: Featurizer, progress: Progress) -> Iterator[dict[str, pa.Array]]:
    for start in range(0, len(dataset.queries), BATCH_ROWS):
        yield _arrow(featurizer.queries(dataset.queries.slice(start, BATCH_ROWS).to_pylist()))
        progress("queries", min(start + BATCH_ROWS, len(dataset.queries)), len(dataset.queries))


def _product_batches(dataset: Dataset, featurizer: Featurizer, progress: Progress) -> Iterator[dict[str, pa.Array]]:
    done = 0
    for batch in dataset.product_batches():
        yield _arrow(featurizer.products({name: batch.column(name).to_pylist() for name in schema.TEXT_COLUMNS}))
        done += batch.num_rows
        progress("products", done, dataset.product_count)


def _arrow(features: QueryFeatures | ProductFeatures) -> dict[str, pa.Array]:
    present = {name: column for name, column in vars(features).items() if column is not None}
    return {name: c.to_arrow() if isinstance(c, Ragged) else pa.array(c, pa.int32()) for name, c in present.items()}


def _open(path: Path) -> dict[str, Any]:
    """Open columns: lists as `Ragged`, numbers as one array."""
    batches = map_batches(path)
    columns = {name: [batch.column(name) for batch in batches] for name in batches[0].schema.names}
    return {
        name: Ragged.from_arrow(chunks) if pa.types.is_list(chunks[0].type) else np.concatenate(chunks)
        for name, chunks in columns.items()
    }


def train_unigram(texts: Iterable[str], pieces: int) -> Tokenizer:
    """Train a Unigram tokenizer (Kudo, 2018) with XLM-R's special tokens and ids."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Digits(individual_digits=True)]
    )
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=pieces, special_tokens=list(SPECIALS), unk_token="<unk>", max_piece_length=12, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer = _in_fixed_order(tokenizer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B:1 </s>:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")],
    )
    return tokenizer


def _in_fixed_order(tokenizer: Tokenizer) -> Tokenizer:
    """Sort the pieces and fix their scores, so that every training has the same result."""
    state = json.loads(tokenizer.to_str())
    learnt = [(piece, score) for piece, score in state["model"]["vocab"] if piece not in SPECIALS]
    lowest = min((score for _, score in learnt), default=0.0)
    added_below = lowest + 1e-4 * sum(len(piece) == 1 for piece, _ in learnt)
    scores = {
        piece: round(lowest if len(piece) == 1 and score < added_below else score, DIGITS) for piece, score in learnt
    }
    fixed = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    state["model"]["vocab"] = [[piece, 0.0] for piece in SPECIALS] + [list(item) for item in fixed]
    return Tokenizer.from_str(json.dumps(state))


def catalogue_tokenizer(dataset: Dataset, pieces: int) -> PairTokenizer:
    """Open the tokenizer of that size; trains it the first time.

    Parameters
    ----------
    dataset
        The dataset whose products and training queries it is trained on.
    pieces
        Size of its vocabulary at most.

    Raises
    ------
    UserError
        When this number of pieces cannot cover the catalogue's characters.
    """
    path = dataset.folder / "tokenizers" / f"unigram-{pieces}" / "tokenizer.json"
    if not path.is_file():
        try:
            tokenizer = train_unigram(_texts(dataset), pieces)
        except Exception as error:  # the library raises nothing narrower when the pieces cannot cover all characters
            problem = f"no tokenizer of {pieces} pieces can be trained on this catalogue ({error})."
            raise UserError(problem, file=dataset.folder, remedy="Raise model.tiny.pieces.") from error
        with new_file(path) as partial:
            tokenizer.save(str(partial))
    return PairTokenizer.load(path.parent)


def _texts(dataset: Dataset, most: int = 400_000) -> Iterator[str]:
    """Return the training queries and the products' texts, at most ``most`` of each, drawn evenly."""
    queries: Int32 = np.unique(dataset.query_row[dataset.column(schema.SPLIT) == schema.TRAIN])
    yield from dataset.queries.take(pa.array(queries[:: 1 + len(queries) // most])).to_pylist()
    every = 1 + dataset.product_count // most
    for batch in dataset.product_batches():
        for name in schema.TEXT_COLUMNS:
            yield from (text for text in batch.column(name)[::every].to_pylist() if text)


BRAND_ROW: Final = "brand"
COLOR_ROW: Final = "color"
HASH: Final = "hash"


@dataclass(frozen=True)
class CatalogueTexts:
    """An open catalogue.

    Parameters
    ----------
    batches
        Its rows in the order of ``products.parquet``, mapped from disk.
    rows
        Those that belong to the catalogue, ``[R]``.
    query_product_P, query_texts
        Product and query of each training pair, by product.
    """

    batches: tuple[pa.RecordBatch, ...]
    rows: Rows
    query_product_P: Int32
    query_texts: pa.Array

    @classmethod
    def open(
        cls, dataset: Dataset, brands: Vocabulary, colors: Vocabulary, pairs: Rows, progress: Progress | None = None
    ) -> "CatalogueTexts":
        """Open the catalogue of a dataset; copies its texts the first time.

        Parameters
        ----------
        dataset
            The dataset.
        brands, colors
            Its vocabularies.
        pairs
            Rows of the examples whose queries `queries` returns: none of the test split.
        progress
            Called with (what, done, total) while texts are copied.

        Raises
        ------
        UserError
            When the texts cannot be written or read.
        """
        folder = dataset.folder / "catalogue" / dataset.fingerprint(brands.fingerprint, colors.fingerprint)
        if not folder.is_dir():
            with new_folder(folder, first_wins=True) as partial:
                write_batches(partial / "products.arrow", _copied(dataset, brands, colors, progress or no_progress))
        batches = tuple(map_batches(folder / "products.arrow"))
        in_catalogue = [pc.equal(batch.column(schema.ORIGIN), schema.CATALOGUE) for batch in batches]
        rows = np.flatnonzero(np.concatenate([mask.to_numpy(zero_copy_only=False) for mask in in_catalogue]))
        products_P, queries_P = dataset.product_row[pairs], dataset.query_row[pairs]
        order = np.argsort(products_P, kind="stable")
        return cls(batches, rows, products_P[order], dataset.queries.take(pa.array(queries_P[order])))

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: Rows) -> ProductTexts:
        """Read some products.

        Parameters
        ----------
        rows
            Their rows in ``products.parquet``, ``[B]``.
        """
        places = [self._place(row) for row in rows.tolist()]
        columns = {
            name: [self.batches[batch].column(name)[row].as_py() or "" for batch, row in places]
            for name in schema.TEXT_COLUMNS
        }
        locales = [self.batches[batch].column(schema.LOCALE)[row].as_py() for batch, row in places]
        return ProductTexts(rows, locales, columns, self._ids[BRAND_ROW][rows], self._ids[COLOR_ROW][rows])

    def of_locale(self, locale: str) -> Rows:
        """Rows of all products of a locale."""
        return self._of_locale.get(locale, np.zeros(0, np.int64))

    def queries(self, rows: Rows) -> list[list[str]]:
        """Return the training queries of products, whatever the label."""
        first = np.searchsorted(self.query_product_P, rows)
        last = np.searchsorted(self.query_product_P, rows, side="right")
        return [self.query_texts[a:b].to_pylist() for a, b in zip(first.tolist(), last.tolist(), strict=True)]

    def split(self, held_out: float) -> tuple[Rows, Rows]:
        """Split the catalogue into training and validation rows, by a hash of locale and product id.

        Parameters
        ----------
        held_out
            Share that is held out.

        Returns
        -------
        training, validation
            Rows of the catalogue; the same on every machine; a larger share contains every smaller one.
        """
        hashes_R = np.concatenate([batch.column(HASH).to_numpy() for batch in self.batches])[self.rows]
        chosen = hashes_R < held_out * 2.0**32
        return self.rows[~chosen], self.rows[chosen]

    @cached_property
    def _starts(self) -> Rows:
        return np.cumsum([0, *(batch.num_rows for batch in self.batches)])

    def _place(self, row: int) -> tuple[int, int]:
        batch = int(np.searchsorted(self._starts, row, side="right")) - 1
        return batch, row - int(self._starts[batch])

    @cached_property
    def _ids(self) -> dict[str, Rows]:
        """Return the brand and color ids of all products, which fit in memory."""
        return {
            name: np.concatenate([batch.column(name).to_numpy() for batch in self.batches]).astype(np.int64)
            for name in (BRAND_ROW, COLOR_ROW)
        }

    @cached_property
    def _of_locale(self) -> dict[str, Rows]:
        codes = pa.chunked_array([batch.column(schema.LOCALE) for batch in self.batches])
        codes = codes.dictionary_encode().combine_chunks()
        code_R = codes.indices.to_numpy()[self.rows]
        return {name: self.rows[code_R == code] for code, name in enumerate(codes.dictionary.to_pylist())}


def _copied(
    dataset: Dataset, brands: Vocabulary, colors: Vocabulary, progress: Progress
) -> Iterator[dict[str, pa.Array]]:
    done = 0
    for batch in dataset.product_batches(schema.ORIGIN):
        yield {
            **{name: batch.column(name) for name in (*schema.TEXT_COLUMNS, schema.LOCALE, schema.ORIGIN)},
            BRAND_ROW: pa.array(brands.index(batch.column(schema.BRAND).to_pylist())),
            COLOR_ROW: pa.array(colors.index(batch.column(schema.COLOR).to_pylist())),
            HASH: pa.array(_hashes(batch)),
        }
        done += batch.num_rows
        progress("catalogue", done, dataset.product_count)


def _hashes(products: pa.RecordBatch) -> npt.NDArray[np.uint32]:
    keys = product_keys(products).to_pylist()
    digests = b"".join(hashlib.blake2b(key.encode(), digest_size=4).digest() for key in keys)
    return np.frombuffer(digests, "<u4").astype(np.uint32)

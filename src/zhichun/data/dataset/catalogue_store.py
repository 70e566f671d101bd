"""Random access to the catalogue: texts, locale, brand and color of products by row.

The texts are copied to ``catalogue/<fingerprint>/`` of the dataset folder, uncompressed and memory-mapped; the
fingerprint is a hash of the dataset and of its vocabularies. Products that a step of `zhichun prepare` made of others
are not among those that are pre-trained on.

Legend: ``R`` products, ``P`` pairs of a product and one of its queries.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from zhichun.core import schema
from zhichun.core.arrays import Int32, map_batches, write_batches
from zhichun.core.files import new_folder
from zhichun.data.dataset.dataset import Dataset, Progress, no_progress, product_keys
from zhichun.text.document import ProductTexts, Rows
from zhichun.text.vocabulary import Vocabulary

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

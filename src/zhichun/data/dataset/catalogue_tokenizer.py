"""The tiny encoder's tokenizer: trained on the catalogue once, and kept in the dataset folder."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.files import new_file
from zhichun.data.dataset.dataset import Dataset
from zhichun.text.tokenizer import PairTokenizer
from zhichun.text.unigram import train_unigram


def catalogue_tokenizer(dataset: Dataset, pieces: int) -> PairTokenizer:
    """Open the tokenizer of that size, training it if it is not there yet.

    Parameters
    ----------
    dataset
        The dataset whose products and training queries it is trained on.
    pieces
        Size of its vocabulary at most.

    Raises
    ------
    UserError
        When so few pieces cannot cover the catalogue's characters.
    """
    path = dataset.folder / "tokenizers" / f"unigram-{pieces}" / "tokenizer.json"
    if not path.is_file():
        try:
            tokenizer = train_unigram(_texts(dataset), pieces)
        except Exception as error:  # the library raises nothing narrower when the pieces cannot cover all characters
            raise UserError(
                f"no tokenizer of {pieces} pieces can be trained on this catalogue ({error}).",
                file=dataset.folder,
                remedy="Raise model.tiny.pieces.",
            ) from error
        with new_file(path) as partial:
            tokenizer.save(str(partial))
    return PairTokenizer.load(path.parent)


def _texts(dataset: Dataset, most: int = 400_000) -> Iterator[str]:
    """Give the training queries and the products' texts, at most ``most`` of each in an even draw."""
    in_training = dataset.query_row[dataset.column(schema.SPLIT) == schema.TRAIN]
    queries: npt.NDArray[np.int32] = np.unique(in_training)
    yield from dataset.queries.take(pa.array(queries[:: 1 + len(queries) // most])).to_pylist()
    every = 1 + dataset.product_count // most
    for batch in dataset.product_batches():
        for name in schema.TEXT_COLUMNS:
            yield from (text for text in batch.column(name)[::every].to_pylist() if text)

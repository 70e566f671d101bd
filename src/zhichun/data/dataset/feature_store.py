"""What is computed of a dataset once and kept in its folder: the features of its texts, and a tokenizer.

Features of queries and products are memory-mapped Arrow in ``features/<fingerprint>/``; the fingerprint is a hash of
tokenizer, template, vocabularies and of the dataset itself, so that runs with equal ones share the features.

The tokenizer is for an encoder without pre-trained weights: Unigram in the shape of XLM-R's, trained on the catalogue.
Nothing is downloaded, and its pieces fit the shop's language.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from zhichun.core import schema
from zhichun.core.arrays import Ragged, map_batches, write_batches
from zhichun.core.errors import UserError
from zhichun.core.files import new_file, new_folder
from zhichun.data.dataset.dataset import BATCH_ROWS, Dataset, Progress, no_progress
from zhichun.text.features import Featurizer, ProductFeatures, QueryFeatures
from zhichun.text.pairs import Pairs
from zhichun.text.tokenizer import PairTokenizer

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
        vocab_size=pieces,
        special_tokens=list(SPECIALS),
        unk_token="<unk>",
        max_piece_length=12,
        show_progress=False,
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
            raise UserError(
                f"no tokenizer of {pieces} pieces can be trained on this catalogue ({error}).",
                file=dataset.folder,
                remedy="Raise model.tiny.pieces.",
            ) from error
        with new_file(path) as partial:
            tokenizer.save(str(partial))
    return PairTokenizer.load(path.parent)


def _texts(dataset: Dataset, most: int = 400_000) -> Iterator[str]:
    """Return the training queries and the products' texts, at most ``most`` of each, drawn evenly."""
    in_training = dataset.query_row[dataset.column(schema.SPLIT) == schema.TRAIN]
    queries: npt.NDArray[np.int32] = np.unique(in_training)
    yield from dataset.queries.take(pa.array(queries[:: 1 + len(queries) // most])).to_pylist()
    every = 1 + dataset.product_count // most
    for batch in dataset.product_batches():
        for name in schema.TEXT_COLUMNS:
            yield from (text for text in batch.column(name)[::every].to_pylist() if text)

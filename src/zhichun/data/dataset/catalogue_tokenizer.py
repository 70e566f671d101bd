"""The tokenizer of an encoder without pre-trained weights: Unigram in the shape of XLM-R's, trained on the catalogue.

Nothing is downloaded, and its pieces fit the shop's language. It is stored in the dataset folder.
"""

import json
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.files import new_file
from zhichun.data.dataset.dataset import Dataset
from zhichun.text.tokenizer import PairTokenizer

SPECIALS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
DIGITS = 4


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

"""What `gpu.py` computes with: encoders of XLM-R's kind with random weights, and how much work a pair is to them.

Speed does not depend on what the weights are, but it does on the lengths of the texts: they are those of the data, read
by a vocabulary that is made from the data too.

Legend: ``P`` pairs.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel

from zhichun.core import schema
from zhichun.core.files import new_folder
from zhichun.data.dataset import Dataset

SPECIAL: Final = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
# Of the vocabulary that is made from the data: what a few thousand products can fill.
PIECES: Final = 30_000


@dataclass(frozen=True)
class Shape:
    """An encoder's size.

    Parameters
    ----------
    layers, hidden, heads, intermediate
        Layers, size of a token's vector, attention heads, and size of the vector within the feed-forward part.
    rows
        Rows of the table of pieces, which the optimiser goes through in every step; texts use `PIECES` of them at most.
    """

    layers: int
    hidden: int
    heads: int
    intermediate: int
    rows: int

    def forward_flops(self, lengths_P: npt.NDArray[np.int64]) -> float:
        """Count the operations that the encoder's answer needs: a multiplication and an addition are two.

        Only products of matrices count, over the pairs' own tokens: no padding, and of the last layer what [CLS] needs,
        for nothing else of it is read. Embeddings, norms and the head are left out, as usual.
        """
        tokens, hidden, inner = lengths_P.astype(np.float64), self.hidden, self.intermediate
        linear = 8 * hidden**2 + 4 * hidden * inner  # of a token: queries, keys, values, output; then in and out
        whole = tokens * linear + 4 * tokens**2 * hidden
        last = tokens * 4 * hidden**2 + 4 * hidden**2 + 4 * hidden * inner + 4 * tokens * hidden
        return float(((self.layers - 1) * whole + last).sum())

    def step_flops(self, lengths_P: npt.NDArray[np.int64]) -> float:
        """Count the operations of a forward and a backward pass, which is twice the work of a forward one."""
        return 3 * self.forward_flops(lengths_P)


SHAPES: Final = {
    "xlm-roberta-large": Shape(24, 1024, 16, 4096, 250_002),
    "xlm-roberta-base": Shape(12, 768, 12, 3072, 250_002),
    "smoke": Shape(2, 64, 2, 128, PIECES),
}


def random_encoder(shape: Shape, folder: Path, data: Path) -> Path:
    """Make a folder that transformers reads as an encoder of the shape, once.

    Parameters
    ----------
    shape
        Its size.
    folder
        Where it is kept.
    data
        Dataset folder, whose texts make the vocabulary.
    """
    if folder.is_dir():
        return folder
    config = XLMRobertaConfig(
        vocab_size=shape.rows,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.intermediate,
        max_position_embeddings=514,
        type_vocab_size=1,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
    )
    with new_folder(folder) as partial:
        _tokenizer(data).save_pretrained(partial)
        XLMRobertaModel(config, add_pooling_layer=False).save_pretrained(partial)
    return folder


def _tokenizer(data: Path) -> PreTrainedTokenizerFast:
    texts = Dataset.open(data).queries.to_pylist()
    products = pq.read_table(data / schema.PRODUCTS_FILE, columns=list(schema.TEXT_COLUMNS))
    texts += [text for column in products.columns for text in column.to_pylist() if text]
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=PIECES, special_tokens=list(SPECIAL.values()), unk_token=SPECIAL["unk_token"], show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    begin, end = ((token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[begin, end]
    )
    reads = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=512,
        model_input_names=reads,
        cls_token="<s>",
        sep_token="</s>",
        **SPECIAL,
    )

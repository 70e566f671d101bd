"""Masked language model on the catalogue: predict masked pieces from their context.

Equation   ``-log softmax(E LN(gelu(W h_t + a)) + b)_x`` of each hidden place ``t`` that held the piece ``x``; ``E`` is
           the encoder's own embedding of pieces
Reference  Devlin et al., 2019, *BERT*; packed as by Liu et al., 2019, *RoBERTa*; the paper, 3.1
Our number nDCG 0.938 after fine-tuning, against 0.937 of a fresh encoder: `benchmarks/results/tables/table3-shop.md`
Cost       one pass of the encoder over as many tokens as the products have, and for each hidden place a row of logits
           over the vocabulary (250,002 floats with XLM-R)
Traps      packed documents see each other; the locale that leads each tells where one begins. Logits are taken at
           hidden places alone: at all of them they would not fit. Embeddings far from length 1 (a matching start's, or
           XLM-R's) times a normed vector give logits so wide that the first steps only shrink them, so the last norm
           starts with a gain that makes their deviation 1. Whole words need a tokenizer that marks where they begin.
           Where the checkpoint has a head of its own it is taken over, gain and all (`pretrain` reports which), since a
           new one costs the first steps. Its products stay in bf16 where training is: their order is never read
Differences  none in what is learnt; the paper does not say whether words are masked whole, and BERT's, which is the
           default here, masks pieces

Every product gives tokens, if only its locale. Masks are drawn for each product before packing, so they are the same in
whatever batch; which documents share a block depends on the batch.

Legend: ``B`` blocks, ``T`` tokens, ``D`` hidden size, ``E`` size of an embedding, ``N`` hidden places, ``V`` pieces.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from zhichun.core.arrays import Bools, Doubles, Int64
from zhichun.core.settings import require_range
from zhichun.data.feature_store import CatalogueTexts
from zhichun.model.encoder import Encoder, LMHead
from zhichun.objective.pretext import task
from zhichun.objective.pretext.task import word_of_token
from zhichun.text.pairs import Arrays, ProductTexts, TextReader

MASKED = 0.8
REPLACED = 0.1


@dataclass(frozen=True, kw_only=True)
class Masked(task.Pretext):
    """Base of the masked language models.

    Parameters
    ----------
    weight
        Weight in the objective.
    share
        Share of the tokens that are masked: 80 % become the mask, 10 % another piece, 10 % are unchanged.
    unit
        Unit of masking: a `piece`, or a whole `word`.
    """

    weight: float = 1.0
    share: float = 0.15
    unit: Literal["piece", "word"] = "piece"

    def __post_init__(self) -> None:
        require_range(self, "weight", above=0, remedy=f"Switch the task off with objective.{self.name}=null.")
        require_range(self, "share", above=0, below=1, remedy="The usual one is 0.15.")

    def head(self, encoder: Encoder, sizes: task.Sizes) -> task.PretextHead:
        """Make the head."""
        return MLMHead(encoder, sizes.lm_head)


@dataclass(frozen=True, kw_only=True)
class MLM(Masked):
    """Masked language model on documents that start with their locale and are packed into full blocks."""

    name: ClassVar[str] = "mlm"
    is_on: ClassVar[bool] = True

    def examples(self, texts: ProductTexts, catalogue: CatalogueTexts, reader: TextReader, draw: task.Draw) -> Arrays:
        """Pack the products into blocks; ``masked`` and ``target`` ``[N]`` are places in ``[B · T]`` and pieces."""
        locales = sorted(set(texts.locales))
        leads = dict(zip(locales, reader.tokens(locales), strict=True))
        documents = [
            np.concatenate([leads[locale], document])
            for locale, document in zip(texts.locales, reader.documents(texts), strict=True)
        ]
        hidden = [
            hide(document, draw.generator(self.name, row), self.share, self.unit, reader)
            for document, row in zip(documents, texts.rows.tolist(), strict=True)
        ]
        original = np.concatenate(documents)
        changed, chosen = (np.concatenate(parts) for parts in zip(*hidden, strict=True))
        before, specials = frame(reader)
        room = reader.max_length - specials
        arrays = reader.singles(np.split(changed, range(room, len(changed), room)))
        block, place = np.divmod(np.flatnonzero(chosen), room)
        return {
            **arrays,
            "masked": block * arrays["input_ids"].shape[1] + before + place,
            "target": original[chosen].astype(np.int64),
            task.ITEMS: np.asarray(chosen.sum(), np.int64),
        }


class MLMHead(task.PretextHead):
    """Transform, then the encoder's embeddings as the decoder.

    Parameters
    ----------
    encoder
        With its initial weights; not kept.
    start
        The checkpoint's own head, whose weights are taken over; ``None`` is a new one.
    """

    def __init__(self, encoder: Encoder, start: LMHead | None = None) -> None:
        super().__init__()
        table_VE = encoder.table.detach()
        pieces, size = table_VE.shape
        norm = nn.LayerNorm(size)
        nn.init.constant_(norm.weight, 1 / (size**0.5 * float(table_VE.std())))
        dense = nn.Linear(encoder.hidden, size)
        self.transform = nn.Sequential(dense, nn.GELU(), norm)
        self.bias = nn.Parameter(torch.zeros(pieces))
        if start is not None:
            norm.eps = start.norm.eps
            with torch.no_grad():
                self.bias.copy_(start.bias_V)
                for own, given in ((dense, start.dense), (norm, start.norm)):
                    own.weight.copy_(given.weight)
                    own.bias.copy_(torch.zeros_like(own.bias) if given.bias is None else given.bias)

    def forward(self, encoder: Encoder, batch: dict[str, Tensor]) -> task.Outcome:
        """Score the masked positions of `MLM.examples`."""
        hidden_ND = encoder.read(batch).flatten(0, 1)[batch["masked"]]
        logits_NV = functional.linear(self.transform(hidden_ND), encoder.table, self.bias).float()
        loss_N = functional.cross_entropy(logits_NV, batch["target"], reduction="none")
        return task.Outcome(loss_N, logits_NV.detach().argmax(dim=1) == batch["target"])


def hide(
    tokens_T: npt.NDArray[Any], random: np.random.Generator, share: float, unit: str, reader: TextReader
) -> tuple[npt.NDArray[Any], Bools]:
    """Mask tokens of one text."""
    special_T = np.isin(tokens_T, reader.special_ids)
    chance_T = random.random(len(tokens_T))
    if unit == "word":
        chance_T = chance_T[word_of_token(tokens_T, reader.tokenizer.word_starts_V, reader.special_ids)]
    chosen_T = (chance_T < share) & ~special_T
    changed_T = tokens_T.copy()
    kind_T = random.random(len(tokens_T))
    changed_T[chosen_T & (kind_T < MASKED)] = reader.tokenizer.mask_id
    replaced_T = chosen_T & (kind_T >= MASKED) & (kind_T < MASKED + REPLACED)
    changed_T[replaced_T] = _ordinary(random.random(int(replaced_T.sum())), reader)
    return changed_T, chosen_T


def _ordinary(chance_N: Doubles, reader: TextReader) -> Int64:
    """Turn numbers from 0 to 1 into pieces that are not special."""
    special = np.unique(reader.special_ids)
    index_N = (chance_N * (len(reader.tokenizer.word_starts_V) - len(special))).astype(np.int64)
    return index_N + np.searchsorted(special - np.arange(len(special)), index_N, side="right")


def frame(reader: TextReader) -> tuple[int, int]:
    """Count the special tokens that a single text has before it, and in all."""
    ids_T = reader.singles([np.asarray([reader.tokenizer.mask_id], np.int32)])["input_ids"][0]
    return int(np.flatnonzero(ids_T == reader.tokenizer.mask_id)[0]), len(ids_T) - 1

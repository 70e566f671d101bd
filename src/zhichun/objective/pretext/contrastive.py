"""Contrastive learning: two views of one text are similar, views of other texts are not.

Equation   ``-log e^{s(h_i, h_i⁺)/τ} / (Σ_j e^{s(h_i, h_j⁺)/τ} + Σ_q e^{s(h_i, k_q)/τ})`` with the cosine ``s`` of means
           over tokens, ``h⁺`` of the second reading, and the keys ``k`` of texts of earlier steps
Reference  Gao et al., 2021, *SimCSE*; Wu et al., 2021, *ESimCSE*, for word repetition and the queue; He et al., 2020,
           *MoCo*, for the momentum encoder; the paper, eq. 1
Our number nDCG 0.935 added to all others, which had 0.896: `benchmarks/results/tables/table3-shop.md`
Cost       two passes of the encoder with gradient over each product; with a queue one more without, and a copy of its
           weights, of which EMA makes another
Traps      without dropout the two readings are one: an encoder that has none is refused unless words are repeated. In
           validation there is no dropout either, and without repetition the accuracy says nothing. The cosine is taken
           in float32: half precision errs by 0.1 after the division by τ. Keys wait for the end of the step, so that
           micro-batches see one queue and no text its own key; nor does one that comes again, at the turn of an epoch,
           while its key is still there
Differences  negatives in the batch are those of one process's micro-batch, while keys of all processes enter the queue.
           At least one word is repeated (ESimCSE: from none), and in the second reading alone

The text is the whole document, cut to the encoder's length. A product without any text gives none.

Legend: ``B`` products, ``T`` tokens, ``D`` hidden size, ``N`` what a text is compared with.
"""

import copy
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

from zhichun.core.errors import UserError
from zhichun.core.settings import require_range
from zhichun.data.feature_store import CatalogueTexts
from zhichun.model.encoder import Encoder
from zhichun.objective.pretext import task
from zhichun.objective.pretext.task import repeat_words
from zhichun.text.pairs import Arrays, ProductTexts, TextReader

EMPTY = -1


class KeyQueue(nn.Module):
    """Keys of the latest texts, and their text ids.

    Parameters
    ----------
    places
        Number of keys, ``Q``.
    size
        Size of a key, ``D``.
    """

    keys_QD: Tensor
    rows_Q: Tensor
    pointer: Tensor

    def __init__(self, places: int, size: int) -> None:
        super().__init__()
        self.register_buffer("keys_QD", torch.zeros(places, size))
        self.register_buffer("rows_Q", torch.full((places,), EMPTY))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))

    def cosines(self, vectors_BD: Tensor, row_B: Tensor) -> Tensor:
        """Compare texts with the queue, ``[B, Q]``; minus infinity at empty places and at a text's own key."""
        hidden_BQ = (self.rows_Q == EMPTY) | (self.rows_Q == row_B[:, None])
        return (vectors_BD @ self.keys_QD.T).masked_fill(hidden_BQ, -torch.inf)

    @torch.no_grad()
    def push(self, keys_KD: Tensor, row_K: Tensor) -> None:
        """Replace the oldest keys by those of all processes, in the order of their ranks.

        Every process must call it together, with any number of keys.
        """
        keys_KD, row_K = _of_all_processes(keys_KD), _of_all_processes(row_K)
        places = len(self.rows_Q)
        index_K = (self.pointer + torch.arange(len(row_K), device=row_K.device)) % places
        self.pointer.add_(len(row_K)).remainder_(places)
        # Of more keys than there are places only the last ones stay; an index must not be written twice.
        self.keys_QD[index_K[-places:]] = keys_KD[-places:].to(self.keys_QD.dtype)
        self.rows_Q[index_K[-places:]] = row_K[-places:]


def _of_all_processes(values: Tensor) -> Tensor:
    """Gather the rows of all processes, which may differ in number."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return values
    counts = [torch.zeros(1, dtype=torch.int64, device=values.device) for _ in range(distributed.get_world_size())]
    distributed.all_gather(counts, torch.tensor([len(values)], device=values.device))
    longest = max(int(count) for count in counts)
    filled = torch.cat([values, values.new_zeros(longest - len(values), *values.shape[1:])])
    gathered = [torch.empty_like(filled) for _ in counts]
    distributed.all_gather(gathered, filled)
    return torch.cat([part[: int(count)] for part, count in zip(gathered, counts, strict=True)])


READ = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True, kw_only=True)
class Contrastive(task.Pretext):
    """Contrastive learning of documents.

    Parameters
    ----------
    weight
        Weight in the objective.
    temperature
        τ, what the cosines are divided by.
    repetition
        Maximum share of a text's words that is repeated in its second view (0.32 in ESimCSE); null repeats none.
    queue
        Keys of earlier steps that are negatives too; 2.5 times the products of a step, as the authors had 20 of 8. null
        is off, and there is no momentum encoder then.
    momentum
        Share that the momentum encoder keeps at each step.
    """

    name: ClassVar[str] = "contrastive"
    weight: float = 1.0
    temperature: float = 0.03
    repetition: float | None = None
    queue: int | None = 320
    momentum: float = 0.999

    def __post_init__(self) -> None:
        require_range(self, "weight", above=0, remedy="Switch the task off with objective.contrastive=null.")
        require_range(self, "temperature", above=0, remedy="The paper's is 0.03.")
        require_range(self, "queue", above=0, remedy="Switch the queue off with objective.contrastive.queue=null.")
        require_range(self, "repetition", above=0, most=1, remedy="Give 0.32, or null, which is off.")
        require_range(self, "momentum", least=0, below=1, remedy="Give 0.999.")

    def examples(self, texts: ProductTexts, catalogue: CatalogueTexts, reader: TextReader, draw: task.Draw) -> Arrays:
        """Make the first views of all products, then the second ones; ``row`` ``[B]`` identifies the products."""
        with_text = [place for place in range(len(texts)) if any(column[place] for column in texts.columns.values())]
        read = texts.at(with_text)
        first = [tokens[: reader.max_length] for tokens in reader.documents(read)]
        second = first
        if self.repetition is not None:
            generators = [draw.generator(self.name, row) for row in read.rows.tolist()]
            second = [
                repeat_words(tokens, generator, self.repetition, reader.tokenizer.word_starts_V, reader.special_ids)
                for tokens, generator in zip(first, generators, strict=True)
            ]
        return {
            **reader.singles(first + second),
            "row": read.rows.astype(np.int64),
            task.ITEMS: np.asarray(len(with_text), np.int64),
        }

    def head(self, encoder: Encoder, sizes: task.Sizes) -> task.PretextHead:
        """Make the head, with a copy of the encoder if there is a queue.

        Raises
        ------
        UserError
            When the encoder has no dropout and no words are repeated.
        """
        dropout = any(isinstance(module, nn.Dropout) and module.p > 0 for module in encoder.modules())
        if self.repetition is None and not dropout:
            remedy = "Use --set objective.contrastive.repetition=0.32, or give the encoder dropout."
            raise UserError("the encoder has no dropout, so both views of a text would be the same.", remedy=remedy)
        return ContrastiveHead(encoder, self)


class ContrastiveHead(task.PretextHead):
    """Matches a text's two views against other texts and the queue.

    Parameters
    ----------
    encoder
        With its initial weights; copied where there is a queue.
    settings
        Temperature, queue and momentum.
    """

    def __init__(self, encoder: Encoder, settings: Contrastive) -> None:
        super().__init__()
        self.settings = settings
        self.queue: KeyQueue | None = None
        if settings.queue is not None:
            self.queue = KeyQueue(settings.queue, encoder.hidden)
            self.momentum = copy.deepcopy(encoder).requires_grad_(False).eval()
        self._waiting: list[tuple[Tensor, Tensor]] = []

    def train(self, mode: bool = True) -> "ContrastiveHead":
        """Switch dropout on or off; the momentum encoder never has any."""
        super().train(mode)
        if self.queue is not None:
            self.momentum.eval()
        return self

    def forward(self, encoder: Encoder, batch: dict[str, Tensor]) -> task.Outcome:
        """Score the texts of `Contrastive.examples`; in training their keys are stored until `after_step`."""
        row_B = batch["row"]
        first_BD, second_BD = pooled(encoder, batch).chunk(2)
        with torch.autocast(first_BD.device.type, enabled=False):
            cosine_BN = first_BD @ second_BD.T
            if self.queue is not None:
                cosine_BN = torch.cat([cosine_BN, self.queue.cosines(first_BD, row_B)], dim=1)
        logits_BN = cosine_BN / self.settings.temperature
        target_B = torch.arange(len(row_B), device=row_B.device)
        loss_B = functional.cross_entropy(logits_BN, target_B, reduction="none")
        if self.training and self.queue is not None:
            with torch.no_grad():
                first = {name: batch[name][: len(row_B)] for name in READ if name in batch}
                self._waiting.append((pooled(self.momentum, first), row_B))
        return task.Outcome(loss_B, logits_BN.detach().argmax(dim=1) == target_B)

    @torch.no_grad()
    def after_step(self, encoder: Encoder) -> None:
        """Update the momentum encoder, and queue the step's keys of all processes."""
        if self.queue is None:
            return
        for own, leading in zip(self.momentum.parameters(), encoder.parameters(), strict=True):
            own.lerp_(leading, 1 - self.settings.momentum)
        keys_QD, rows_Q = self.queue.keys_QD, self.queue.rows_Q
        self.queue.push(
            torch.cat([keys_QD[:0], *(keys for keys, _ in self._waiting)]),
            torch.cat([rows_Q[:0], *(rows for _, rows in self._waiting)]),
        )
        self._waiting.clear()


def pooled(encoder: Encoder, batch: dict[str, Tensor]) -> Tensor:
    """Return each text's mean over its tokens, ``[B, D]``, in float32 and of length 1."""
    mask_BT = batch["attention_mask"]
    sum_BD = (encoder.read(batch).float() * mask_BT[:, :, None]).sum(dim=1)
    return functional.normalize(sum_BD, dim=1)  # the length goes, so the sum will do for the mean

"""Base of brand and color prediction: a class of a vocabulary, predicted from title and bullets.

Equation   ``-log softmax(LN(gelu(W h + a)) Eᵀ + b)_y`` with the first vector ``h`` and the table ``E``; sampled,
           ``-log e^{z_y} / (e^{z_y} + Σ_s e^{z_s} / (S q_s))`` over ``S`` draws ``s`` of probability ``q_s``
Reference  the paper, 3.1; the head's shape in docs/method.md; sampling: Bengio and Senécal, 2003, *Quick Training of
           Probabilistic Neural Nets by Importance Sampling*
Our number see product2brand and product2color: `benchmarks/results/tables/table3-shop.md`
Cost       one pass of the encoder over title and bullets, and a row of logits over the vocabulary or over the sample
Traps      unknown (row 0) is no class and its row is never trained. With a sample the accuracy of a training step is
           among the sample; in validation it is always among all. The draws are log-uniform by row, which takes a
           vocabulary sorted by count, as ours are

A product whose entry is not in the vocabulary, or without title and bullets, gives none.

Legend: ``N`` products, ``T`` tokens, ``D`` hidden size, ``F`` size of an entry, ``K``
entries of the vocabulary, ``V`` rows of its table (those and row 0), ``S`` entries sampled.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.settings import require_range
from zhichun.data.dataset.catalogue_store import CatalogueTexts
from zhichun.model.encoder import Encoder
from zhichun.objective.pretext import task
from zhichun.text.document import ProductTexts, Rows
from zhichun.text.pairs import Arrays, TextReader


@dataclass(frozen=True, kw_only=True)
class Facet(task.Pretext):
    """Base of Product2Brand and Product2Color.

    Parameters
    ----------
    weight
        Weight in the objective.
    size
        Size of an entry's vector, and of the ID embedding in fine-tuning.
    sampled
        Number of sampled negatives in a training step, drawn log-uniformly; null is the full softmax.
    """

    name: ClassVar[str]
    table: ClassVar[str]
    weight: float = 0.15
    size: int = 128
    sampled: int | None = None

    def __post_init__(self) -> None:
        require_range(self, "weight", above=0, remedy=f"Switch the task off with objective.{self.name}=null.")
        require_range(self, "size", "sampled", above=0, remedy="Use size=128, and sampled=null for the full softmax.")

    @abstractmethod
    def labels(self, texts: ProductTexts) -> Rows:
        """Return each product's row in the vocabulary; 0 is unknown."""

    def rows(self, sizes: task.Sizes) -> int:
        """Return the rows of the table, row 0 with them."""
        return int(getattr(sizes, f"{self.table}s"))

    def examples(self, texts: ProductTexts, catalogue: CatalogueTexts, reader: TextReader, draw: task.Draw) -> Arrays:
        """Select the products with a known entry; ``label`` ``[N]`` is that entry's row in the vocabulary."""
        titles, bullets = texts.columns[schema.TITLE], texts.columns[schema.BULLETS]
        told = [f"{title} {points}".strip() for title, points in zip(titles, bullets, strict=True)]
        label_all = self.labels(texts).astype(np.int64)
        known = [place for place, text in enumerate(told) if text and label_all[place]]
        return {
            **reader.singles(reader.tokens([told[place] for place in known])),
            "label": label_all[known],
            task.ITEMS: np.asarray(len(known), np.int64),
        }

    def head(self, encoder: Encoder, sizes: task.Sizes) -> "FacetHead":
        """Make the head."""
        entries = self.rows(sizes) - 1
        if entries < 1:
            raise UserError(
                f"the catalogue has no {self.table} that occurs twice, so {self.name} has nothing to learn.",
                remedy=f"Use --set objective.{self.name}=null.",
            )
        if self.sampled is not None and self.sampled >= entries:
            raise UserError(
                f"{self.name}.sampled={self.sampled} has no effect: there are {entries} entries in all.",
                remedy=f"Use --set objective.{self.name}.sampled=null.",
            )
        return FacetHead(encoder.hidden, self.rows(sizes), self)


class FacetHead(task.PretextHead):
    """First vector → linear → GELU → norm, then the dot product with a table, and a bias.

    Parameters
    ----------
    hidden
        Size of the encoder's vectors.
    rows
        Rows of the table, row 0 with them.
    settings
        Size and sampling.
    """

    def __init__(self, hidden: int, rows: int, settings: Facet) -> None:
        super().__init__()
        self.transform = nn.Sequential(nn.Linear(hidden, settings.size), nn.GELU(), nn.LayerNorm(settings.size))
        self.table = nn.Embedding(rows, settings.size)
        nn.init.normal_(self.table.weight, std=0.02)
        self.bias = nn.Parameter(torch.zeros(rows))
        self.sampled = settings.sampled
        self.taken_over_as = settings.table

    def tables(self) -> dict[str, Tensor]:
        """Return the table under the name of its ID embedding; row 0, the unknown, is as it was made."""
        return {self.taken_over_as: self.table.weight}

    def forward(self, encoder: Encoder, batch: dict[str, Tensor]) -> task.Outcome:
        """Score the products of `Facet.examples`; in training with a sample, only against the sample."""
        told_NF = self.transform(encoder.read(batch, first_only=True))
        label_N = batch["label"]
        if self.training and self.sampled is not None:
            logits_NC, target_N = self._against_sample(told_NF, label_N, self.sampled), torch.zeros_like(label_N)
        else:  # row 0 is no class
            logits_NC = functional.linear(told_NF, self.table.weight[1:], self.bias[1:]).float()
            target_N = label_N - 1
        loss_N = functional.cross_entropy(logits_NC, target_N, reduction="none")
        return task.Outcome(loss_N, logits_NC.detach().argmax(dim=1) == target_N)

    def _against_sample(self, told_NF: Tensor, label_N: Tensor, size: int) -> Tensor:
        """Logits of the right entry, ``[:, 0]``, and of sampled ones less the log of how often each is expected."""
        entries = len(self.bias) - 1
        sample_S = log_uniform(size, entries, told_NF.device)
        expected_S = size * log_uniform_probability(sample_S, entries)
        sampled_NS = functional.linear(told_NF, self.table(sample_S), self.bias[sample_S]).float() - expected_S.log()
        sampled_NS = sampled_NS.masked_fill(sample_S == label_N[:, None], -torch.inf)
        right_N = (told_NF.float() * self.table(label_N)).sum(dim=1) + self.bias[label_N]
        return torch.cat([right_N[:, None], sampled_NS], dim=1)


def log_uniform(size: int, entries: int, device: torch.device) -> Tensor:
    """Draw rows 1 … ``entries`` with replacement, the first ones, which are the frequent, most often (Zipf's law)."""
    drawn_S = torch.exp(torch.rand(size, device=device, dtype=torch.float64) * math.log(entries + 1))
    return drawn_S.long().clamp(1, entries)


def log_uniform_probability(row_S: Tensor, entries: int) -> Tensor:
    """Probability of each row at one draw, ``log((row + 1) / row) / log(entries + 1)``."""
    return (torch.log1p(1 / row_S.double()) / math.log(entries + 1)).float()

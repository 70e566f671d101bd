"""Product2Brand and Product2Color: predict the brand, or the color, from title and bullets.

Equation   ``-log softmax(LN(gelu(W h + a)) Eᵀ + b)_y`` with the first vector ``h`` and the table ``E``, which becomes
           fine-tuning's ID embedding
Reference  the paper, 3.1; the head's shape in docs/method.md
Our number nDCG 0.896 with both, added to 0.925: `benchmarks/results/tables/table3-shop.md`
Cost       one pass of the encoder over title and bullets, and a row of logits over the vocabulary: 151,519 brands and
           47,036 colors in the paper
Traps      unknown (row 0) is no class and its row is never trained. The title often has the brand, as in the paper:
           then little more than copying is learnt. Sellers spell one color in many ways, each a class of its own

A product whose entry is not in the vocabulary, or without title and bullets, gives none.

Legend: ``N`` products, ``F`` size of an entry, ``C`` entries of the vocabulary.
"""

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
from zhichun.data.feature_store import CatalogueTexts
from zhichun.model.encoder import Encoder
from zhichun.objective.pretext import task
from zhichun.text.pairs import Arrays, ProductTexts, Rows, TextReader


@dataclass(frozen=True, kw_only=True)
class Facet(task.Pretext):
    """Base of Product2Brand and Product2Color.

    Parameters
    ----------
    weight
        Weight in the objective.
    size
        Size of an entry's vector, and of the ID embedding in fine-tuning.
    """

    name: ClassVar[str]
    table: ClassVar[str]
    weight: float = 0.15
    size: int = 128

    def __post_init__(self) -> None:
        require_range(self, "weight", above=0, remedy=f"Switch the task off with objective.{self.name}=null.")
        require_range(self, "size", above=0, remedy="The paper's is 128.")

    @abstractmethod
    def labels(self, texts: ProductTexts) -> Rows:
        """Return each product's row in the vocabulary; 0 is unknown."""

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
        rows = int(getattr(sizes, f"{self.table}s"))
        if rows < 2:
            problem = f"the catalogue has no {self.table} that occurs twice, so {self.name} has nothing to learn."
            raise UserError(problem, remedy=f"Use --set objective.{self.name}=null.")
        return FacetHead(encoder.hidden, rows, self)


class FacetHead(task.PretextHead):
    """First vector → linear → GELU → norm, then the dot product with a table, and a bias.

    Parameters
    ----------
    hidden
        Size of the encoder's vectors.
    rows
        Rows of the table, row 0 with them.
    settings
        Size and name of the table.
    """

    def __init__(self, hidden: int, rows: int, settings: Facet) -> None:
        super().__init__()
        self.transform = nn.Sequential(nn.Linear(hidden, settings.size), nn.GELU(), nn.LayerNorm(settings.size))
        self.table = nn.Embedding(rows, settings.size)
        nn.init.normal_(self.table.weight, std=0.02)
        self.bias = nn.Parameter(torch.zeros(rows))
        self.taken_over_as = settings.table

    def tables(self) -> dict[str, Tensor]:
        """Return the table under the name of its ID embedding; row 0, the unknown, is as it was made."""
        return {self.taken_over_as: self.table.weight}

    def forward(self, encoder: Encoder, batch: dict[str, Tensor]) -> task.Outcome:
        """Score the products of `Facet.examples`."""
        told_NF = self.transform(encoder.read(batch, first_only=True))
        logits_NC = functional.linear(told_NF, self.table.weight[1:], self.bias[1:]).float()
        target_N = batch["label"] - 1  # row 0 is no class
        loss_N = functional.cross_entropy(logits_NC, target_N, reduction="none")
        return task.Outcome(loss_N, logits_NC.detach().argmax(dim=1) == target_N)


@dataclass(frozen=True, kw_only=True)
class Product2Brand(Facet):
    """Brand prediction; the options are those of `Facet`."""

    name: ClassVar[str] = "product2brand"
    table: ClassVar[str] = "brand"

    def labels(self, texts: ProductTexts) -> Rows:
        """Return the brands."""
        return texts.brands


@dataclass(frozen=True, kw_only=True)
class Product2Color(Facet):
    """Color prediction; the options are those of `Facet`."""

    name: ClassVar[str] = "product2color"
    table: ClassVar[str] = "color"

    def labels(self, texts: ProductTexts) -> Rows:
        """Return the colors."""
        return texts.colors

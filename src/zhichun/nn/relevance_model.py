"""The whole model of the paper's Figure 2; each part can be off.

``h = [CLS] ⊕ country ⊕ brand ⊕ color ⊕ trigrams of the query ⊕ of title, brand, color and bullets ⊕ of the
description``, then the head.

Legend: ``B`` pairs, ``C`` outputs, ``D`` hidden size, ``F`` features.
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from zhichun.errors import UserError
from zhichun.nn.encoder import TINY, Encoder, TinyEncoder
from zhichun.nn.head import Head
from zhichun.nn.id_embeddings import IdEmbeddings
from zhichun.nn.ngram_unit import NgramUnit
from zhichun.text.document import COUNTRIES, FIELDS, check_fields


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """What the model consists of.

    Parameters
    ----------
    encoder
        A transformers encoder by hub name or path (`microsoft/infoxlm-large`), or `tiny`: one from nothing.
    tiny
        Shape of the tiny encoder; without effect for a named one.
    max_length
        Tokens a pair is cut to, the longer of query and product first.
    fields
        The product's fields in the order in which the encoder reads them.
    trigrams
        Size of a trigram's vector in the semantic unit; null is off.
    trigram_start
        Where the trigrams' vectors start: `random`, `word2vec` (of `zhichun word2vec`), or `word2vec frozen`, where
        they also stay.
    country
        Size of the country embedding; null is off.
    brand
        Size of the brand embedding; null is off.
    color
        Size of the color embedding; null is off.
    dropout
        Dropout of the head.
    """

    encoder: str = TINY
    tiny: TinyEncoder = field(default_factory=TinyEncoder)
    max_length: int = 256
    fields: tuple[str, ...] = FIELDS
    trigrams: int | None = 64
    trigram_start: Literal["random", "word2vec", "word2vec frozen"] = "random"
    country: int | None = 8
    brand: int | None = 128
    color: int | None = 128
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check_fields(self.fields)
        if self.max_length < 8:
            raise UserError(f"model.max_length={self.max_length} leaves no room for a pair; give 8 or more.")
        for name in ("trigrams", "country", "brand", "color"):
            if (size := getattr(self, name)) is not None and size < 1:
                raise UserError(f"model.{name}={size} is no size.", remedy=f"Switch it off with model.{name}=null.")
        if self.trigrams is None and self.trigram_start != "random":
            raise UserError(
                f"model.trigram_start={self.trigram_start!r} has no effect while model.trigrams=null.",
                remedy="Give model.trigrams a size, or use --set model.trigram_start=random.",
            )


@dataclass(frozen=True, kw_only=True)
class VocabularySizes:
    """Rows of the tables that vocabularies decide; the model keeps them beside its weights."""

    trigrams: int = 0
    brands: int = 0
    colors: int = 0


class RelevanceModel(nn.Module):
    """Encoder, semantic unit and ID embeddings side by side, and the head on top.

    Parameters
    ----------
    settings
        Which parts, how large.
    encoder
        The text encoder.
    sizes
        Sizes of the vocabularies.
    outputs
        Outputs of the head, ``C``.
    """

    def __init__(self, settings: ModelSettings, encoder: Encoder, sizes: VocabularySizes, outputs: int) -> None:
        super().__init__()
        self.encoder = encoder
        rows = {"country": len(COUNTRIES), "brand": sizes.brands, "color": sizes.colors}
        tables = {name: (rows[name], size) for name in rows if (size := getattr(settings, name)) is not None}
        self.ids = IdEmbeddings(tables) if tables else None
        frozen = settings.trigram_start == "word2vec frozen"
        self.ngrams = (
            NgramUnit(sizes.trigrams, settings.trigrams, frozen=frozen) if settings.trigrams is not None else None
        )
        features = encoder.hidden + sum(part.size for part in (self.ids, self.ngrams) if part is not None)
        self.head = Head(features, encoder.hidden, outputs, settings.dropout)
        self.outputs = outputs

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Score the pairs of a batch.

        Parameters
        ----------
        batch
            The arrays of `text.pairs.Pairs.collate` as tensors.

        Returns
        -------
        Tensor
            Logits in float32, ``[B, C]``.
        """
        hidden_BTD = self.encoder(batch["input_ids"], batch["attention_mask"], batch.get("token_type_ids"))
        features = [hidden_BTD[:, 0]]
        features += [part(batch) for part in (self.ids, self.ngrams) if part is not None]
        logits_BC: Tensor = self.head(torch.cat(features, dim=1))
        return logits_BC

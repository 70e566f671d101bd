"""The whole model of the paper's Figure 2; each part can be switched off.

``h = [CLS] ⊕ country ⊕ brand ⊕ color ⊕ trigrams of the query ⊕ of title, brand, color and bullets ⊕ of the
description``, then the head.

The list head: a pair's vector reads the other candidates of its query.

Equation   ``h_i + γ ⊙ W Σ_j softmax_j(q_i · k_j / √E) v_j`` over the other pairs ``j`` of the list of ``i``; ``γ`` is 0
           at the start
Reference  Pobrotyn et al., 2020, *Context-Aware Learning to Rank with Self-Attention*, for attention over a list; the
           gate as in Bachlechner et al., 2020, *ReZero is All You Need*
Our number no gain measured: no table of ours has it yet
Cost       four products of a pair's vector with narrow matrices, beside an encoder next to nothing
Traps      a score depends on the other candidates: score a query's candidates together, as many and of the sort that
           were trained on. The pair's own path has no norm and no feed-forward, and attention over no pair is zero, so
           a list of one is the model without lists, to the bit. Order and number of candidates are not read

Legend: ``B`` pairs, ``T`` tokens, ``C`` outputs, ``D`` hidden size, ``F`` features of a pair, ``H`` heads, ``E`` size
of a head.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from zhichun.core.errors import UserError
from zhichun.core.settings import require_range
from zhichun.model.attention import tokens_of
from zhichun.model.encoder import Encoder
from zhichun.model.encoder_settings import EncoderSettings
from zhichun.model.parts import FieldPooling, Head, IdEmbeddings, NgramUnit
from zhichun.text.pairs import COUNTRIES
from zhichun.text.tokenizer import PairLayout


@dataclass(frozen=True, kw_only=True)
class ListHead:
    """Attention over the other candidates of a query.

    Parameters
    ----------
    size
        Size of queries, keys and values, over all heads.
    heads
        Attention heads.
    """

    size: int = 64
    heads: int = 4

    def __post_init__(self) -> None:
        off = "Switch it off with model.lists=null."
        require_range(self, "size", "heads", least=1, prefix="model.lists.", remedy=off)
        if self.size % self.heads:
            remedy = f"Give a multiple of {self.heads}."
            raise UserError(f"model.lists.size={self.size} cannot be shared out to {self.heads} heads.", remedy=remedy)


class ListAttention(nn.Module):
    """The list head's weights; computed in float32, as the head that reads what it gives.

    Parameters
    ----------
    settings
        Sizes.
    features
        Size of a pair's vector, ``F``.
    """

    def __init__(self, settings: ListHead, features: int) -> None:
        super().__init__()
        self.heads = settings.heads
        self.query, self.key, self.value = (nn.Linear(features, settings.size) for _ in range(3))
        self.out = nn.Linear(settings.size, features, bias=False)
        self.gate = nn.Parameter(torch.zeros(features))

    def forward(self, vectors_BF: Tensor, list_B: Tensor) -> Tensor:
        """Add to each pair's vector what the others of its list say, ``[B, F]``."""
        with torch.autocast(vectors_BF.device.type, enabled=False):
            vectors_BF = vectors_BF.float()

            def split(of: nn.Module) -> Tensor:
                heads_HBE: Tensor = of(vectors_BF).unflatten(1, (self.heads, -1)).transpose(0, 1)
                return heads_HBE

            query_HBE, key_HBE, value_HBE = split(self.query), split(self.key), split(self.value)
            place_B = torch.arange(list_B.shape[0], device=list_B.device)  # len would be a constant of the graph
            others_BB = (list_B[:, None] == list_B) & (place_B[:, None] != place_B)
            scores_HBB = query_HBE @ key_HBE.transpose(1, 2) * query_HBE.shape[-1] ** -0.5
            lowest = torch.finfo(torch.float32).min
            share_HBB = scores_HBB.masked_fill(~others_BB, lowest).softmax(dim=-1) * others_BB
            return vectors_BF + self.gate * self.out((share_HBB @ value_HBE).transpose(0, 1).flatten(1))


@dataclass(frozen=True, kw_only=True)
class ModelSettings(EncoderSettings):
    """The model: encoder and side features.

    Parameters
    ----------
    trigrams
        Size of a trigram's vector in the semantic unit; null is off.
    trigram_start
        Initialisation of the trigrams' vectors: `random`, `word2vec` (of `zhichun word2vec`), or `word2vec frozen`,
        where they are not trained.
    country
        Size of the country embedding; null is off.
    brand
        Size of the brand embedding; null is off.
    color
        Size of the color embedding; null is off.
    dropout
        Dropout of the head.
    dropout_samples
        Dropout masks that the head draws for each pair in training, with the mean of their losses; null is one.
    pooling
        `first`: [CLS] represents the pair; `fields`: in addition, the means over the tokens of the query and of each of
        the product's fields.
    lists
        ListHead, with which a pair's vector reads the other candidates of its query, trained with `train.lists`; null
        is off, and a pair's score then depends on nothing but the pair.
    """

    trigrams: int | None = 64
    trigram_start: Literal["random", "word2vec", "word2vec frozen"] = "random"
    country: int | None = 8
    brand: int | None = 128
    color: int | None = 128
    dropout: float = 0.1
    dropout_samples: int | None = None
    pooling: Literal["first", "fields"] = "first"
    lists: ListHead | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("trigrams", 1), ("country", 1), ("brand", 1), ("color", 1), ("dropout_samples", 2)):
            require_range(self, name, least=least, prefix="model.", remedy=f"Switch it off with model.{name}=null.")
        require_range(self, "dropout", least=0, below=1, prefix="model.")
        if self.trigrams is None and self.trigram_start != "random":
            problem = f"model.trigram_start={self.trigram_start!r} has no effect while model.trigrams=null."
            raise UserError(problem, remedy="Give model.trigrams a size, or use --set model.trigram_start=random.")
        if self.pooling == "fields" and self.query_tokens is not None:
            raise UserError(
                "model.pooling='fields' averages the product's vectors, which model.interaction=Split does not update.",
                remedy="Use --set model.pooling=first, or --set model.interaction=Full.",
            )

    @property
    def side_features(self) -> tuple[str, ...]:
        """The settings of the side features that are on."""
        return tuple(name for name in ("trigrams", "country", "brand", "color") if getattr(self, name) is not None)


@dataclass(frozen=True, kw_only=True)
class VocabularySizes:
    """Rows of the vocabularies' tables; stored with the weights."""

    trigrams: int = 0
    brands: int = 0
    colors: int = 0


class RelevanceModel(nn.Module):
    """Encoder, semantic unit and ID embeddings, concatenated, and the head on top.

    Parameters
    ----------
    settings
        Which parts, and their sizes.
    encoder
        The text encoder.
    sizes
        Sizes of the vocabularies.
    outputs
        Outputs of the head, ``C``.
    layout
        Special tokens of a pair, which delimit the fields for field pooling.
    """

    def __init__(
        self, settings: ModelSettings, encoder: Encoder, sizes: VocabularySizes, outputs: int, layout: PairLayout
    ) -> None:
        super().__init__()
        self.encoder = encoder
        rows = {"country": len(COUNTRIES), "brand": sizes.brands, "color": sizes.colors}
        tables = {name: (rows[name], size) for name in rows if (size := getattr(settings, name)) is not None}
        self.ids = IdEmbeddings(tables) if tables else None
        frozen = settings.trigram_start == "word2vec frozen"
        self.ngrams = (
            NgramUnit(sizes.trigrams, settings.trigrams, frozen=frozen) if settings.trigrams is not None else None
        )
        self.pooling = (
            FieldPooling(layout, len(settings.fields), encoder.hidden) if settings.pooling == "fields" else None
        )
        features = encoder.hidden + sum(part.size for part in (self.pooling, self.ids, self.ngrams) if part is not None)
        self.lists = None if settings.lists is None else ListAttention(settings.lists, features)
        self.head = Head(features, encoder.hidden, outputs, settings.dropout, settings.dropout_samples)
        self.outputs = outputs

    def features(self, batch: dict[str, Tensor], vectors_BTD: Tensor | None = None) -> Tensor:
        """Make the head's input for each pair, ``[B, F]``; [CLS] is the first ``encoder.hidden`` of it.

        Parameters
        ----------
        batch
            As for `forward`.
        vectors_BTD
            As for `forward`.
        """
        alone_BF = self.pair_vectors(batch, vectors_BTD)
        return alone_BF if self.lists is None or "list" not in batch else self.lists(alone_BF, batch["list"])

    def pair_vectors(self, batch: dict[str, Tensor], vectors_BTD: Tensor | None = None) -> Tensor:
        """Concatenate what is read of each pair by itself, ``[B, F]``."""
        if self.pooling is None:
            features = [self.encoder.read(batch, vectors_BTD, first_only=True)]
        else:
            tokens, hidden_BTD = tokens_of(batch), self.encoder.read(batch, vectors_BTD)
            features = [tokens.first(hidden_BTD), self.pooling(hidden_BTD, batch["input_ids"], tokens)]
        features += [part(batch) for part in (self.ids, self.ngrams) if part is not None]
        return torch.cat(features, dim=1)

    def forward(self, batch: dict[str, Tensor], vectors_BTD: Tensor | None = None) -> Tensor:
        """Score the pairs of a batch.

        Parameters
        ----------
        batch
            The arrays of `text.pairs.Pairs.collate` as tensors; for a list head also ``list`` ``[B]``, the list of each
            pair, without which every pair is in a list by itself.
        vectors_BTD
            Token vectors to use instead of those of ``input_ids``, such as perturbed ones.

        Returns
        -------
        Tensor
            Logits in float32, ``[B, C]``; in training with several dropout samples ``[K, B, C]``.
        """
        logits_BC: Tensor = self.head(self.features(batch, vectors_BTD))
        return logits_BC


class BeforeLists(nn.Module):
    """What a model with a list head makes of a pair by itself: its logits in a list of one, and its vector."""

    def __init__(self, model: RelevanceModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return ``[B, C]`` and ``[B, F]``, both float32."""
        vectors_BF = self.model.pair_vectors(batch)
        return self.model.head(vectors_BF), vectors_BF.float()


class OverLists(nn.Module):
    """The rest of a model with a list head: from the vectors of whole lists to logits."""

    def __init__(self, model: RelevanceModel) -> None:
        super().__init__()
        assert model.lists is not None
        self.lists, self.head = model.lists, model.head

    def forward(self, vectors_BF: Tensor, list_B: Tensor) -> Tensor:
        """Return logits, ``[B, C]``."""
        logits_BC: Tensor = self.head(self.lists(vectors_BF, list_B))
        return logits_BC

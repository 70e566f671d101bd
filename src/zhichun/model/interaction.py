"""How an encoder brings query and product together: read as one text, or apart, with the product's part kept.

What       ``Split`` sends ``[CLS] query [SEP]`` and ``product [SEP]`` separately through the first layers. What comes
           out for a product, its states, depends on the product alone and can be computed once. In the layers above the
           query's tokens alone are updated; they attend to each other and to the product's states, which stay
Equation   above the split, for the query's tokens ``x`` and the product's states ``h``, with the layer's own matrices:
           ``softmax(q [W_k x + b_k; W_k h + b_k]ᵀ) [W_v x; W_v h] + b_v``, one softmax over both. With ``state``,
           ``h = B A h' + c``: ``A`` is kept of ``h'``, no norm or nonlinearity comes after it
Reference  MacAvaney et al., 2020, *Efficient Document Re-Ranking for Transformers by Precomputing Term
           Representations* (PreTTR, which updates both sides above); Vast et al., 2026, *MICE*, arXiv 2602.16299 (the
           query's side alone)
Our number Chorus, MiniLM split after 4 layers, both warmed up, one seed: nDCG 0.842 against 0.884
           (experiments/LOG.md)
Cost       in training about that of the whole model, and less where products or queries of a batch are the same: each
           is read once (in Product2Query a product stands with eight queries); in scoring, from kept states, the upper
           layers for the query's tokens
Traps      query and product are cut separately and the product's positions begin at a fixed place, or a state would
           depend on its query. An encoder trained otherwise has to learn this form: warm it up by Product2Query. Pairs
           that share a product share its dropout below the split

Legend: ``B`` pairs, ``T`` tokens, ``D`` hidden size, ``S`` size of a state; ``M`` tokens of all queries, ``N`` of all
products, ``K`` of both; a packed batch (`model.attention`) is one row.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from zhichun.core.errors import UserError
from zhichun.core.settings import require_range
from zhichun.model import attention as packed_attention
from zhichun.model.attention import Packed, Padded, Tokens, tokens_of
from zhichun.model.encoder import PROJECTION, Attention, Encoder, place_of
from zhichun.model.layers import ARCHITECTURES, layers_of

_FULL: Final = "--set model.interaction=Full"


@dataclass(frozen=True, kw_only=True)
class Full:
    """Query and product are read together, in one text."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """Query and product are read apart, so that a product's states can be computed once.

    Parameters
    ----------
    product_layers
        Layers that a product goes through by itself; a query does too. Those above bring the two together.
    query_layers
        Layers above that are kept; the encoder's others are dropped. null keeps all.
    query_tokens
        Tokens of the query's segment at most, special ones included; the product's has the rest of `model.max_length`.
    updates
        What the layers above update: the `query` alone, or `both` (PreTTR), nearer to the whole model and slower.
    state
        Size of a product's state for each token, a learned linear projection; null keeps the encoder's whole vectors.
    """

    product_layers: int = 4
    query_layers: int | None = None
    query_tokens: int = 32
    updates: Literal["query", "both"] = "query"
    state: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("product_layers", 1), ("query_layers", 1), ("query_tokens", 4), ("state", 1)):
            require_range(self, name, least=least, prefix="model.interaction.")


@dataclass(frozen=True)
class _Segments:
    """The queries' or the products' segments of a batch, from the longest to the shortest, each once.

    ``segment_B`` says which is each pair's, ``packed`` how they lie, ``token_K`` where each token lies in the batch.
    """

    segment_B: Tensor
    packed: Packed
    token_K: Tensor

    @classmethod
    def of(cls, start_B: Tensor, length_B: Tensor, ids_N: Tensor | None = None) -> "_Segments":
        """Sort segments by their length: one call of attention then serves all of one length.

        With the batch's ``ids_N`` pairs with the same tokens share a segment.
        """
        first_U = torch.arange(len(start_B), device=start_B.device)
        segment_B = first_U
        if ids_N is not None:
            first_U, segment_B = _distinct(start_B, Packed.of(length_B), ids_N)
        order_U = torch.argsort(length_B[first_U], descending=True, stable=True)
        first_U, packed = first_U[order_U], Packed.of(length_B[first_U[order_U]])
        return cls(torch.argsort(order_U)[segment_B], packed, start_B[first_U][packed.pair_N] + packed.place_N)


def _distinct(start_B: Tensor, packed: Packed, ids_N: Tensor) -> tuple[Tensor, Tensor]:
    """Find the pairs whose segment comes for the first time, in order, and which of these each pair's segment is."""
    ids_BL = ids_N.new_full((packed.pairs, packed.longest), -1)
    ids_BL[packed.pair_N, packed.place_N] = ids_N[start_B[packed.pair_N] + packed.place_N]
    same_B = torch.unique(ids_BL, dim=0, return_inverse=True)[1]
    place_B = torch.arange(packed.pairs, device=same_B.device)
    first_U = place_B.new_full((int(same_B.max()) + 1,), packed.pairs).scatter_reduce(0, same_B, place_B, "amin")
    order_U = torch.argsort(first_U)
    return first_U[order_U], torch.argsort(order_U)[same_B]


@dataclass(frozen=True)
class _Pairs:
    """How the pairs lie above the split, ``pair_B``: in the order of their products.

    ``asking`` lays the queries out, and ``query_M`` says where each of their tokens was; ``both`` lays out query and
    product of each pair, and ``both_K`` says where each token is among those of all pairs' queries and, behind, of the
    distinct products.
    """

    pair_B: Tensor
    asking: Packed
    query_M: Tensor
    both: Packed
    both_K: Tensor

    @classmethod
    def of(cls, queries: _Segments, products: _Segments) -> "_Pairs":
        """Bring the queries into the products' order, and each before its product."""
        pair_B = torch.argsort(products.segment_B, stable=True)
        query_B, product_B = queries.segment_B[pair_B], products.segment_B[pair_B]
        asking = Packed.of(queries.packed.length_B[query_B])
        query_M = queries.packed.start_B[query_B][asking.pair_N] + asking.place_N
        both = Packed.of(asking.length_B + products.packed.length_B[product_B])
        after_K = both.place_N - asking.length_B[both.pair_N]
        query_K = asking.start_B[both.pair_N] + both.place_N
        product_K = asking.total + products.packed.start_B[product_B][both.pair_N] + after_K
        return cls(pair_B, asking, query_M, both, torch.where(after_K < 0, query_K, product_K))


class SplitEncoder(Encoder):
    """An encoder that reads query and product apart; a single text it reads as a whole.

    Parameters
    ----------
    model
        The bare encoder; its layers above ``query_layers`` are dropped.
    settings
        Where it is split.

    Raises
    ------
    UserError
        When its kind, its number of layers or its size allows no such split.
    """

    def __init__(self, model: Any, settings: Split) -> None:
        _check(model.config, settings)
        last = None if settings.query_layers is None else settings.product_layers + settings.query_layers
        model.encoder.layer = model.encoder.layer[:last]
        model.config.num_hidden_layers = len(model.encoder.layer)
        super().__init__(model)
        self.settings = settings
        model.set_attn_implementation(packed_attention.NAME)
        self._packs = True
        self.shrink: nn.Linear | None = None
        self.expand: nn.Linear | None = None
        if settings.state is not None:
            self.shrink = nn.Linear(self.hidden, settings.state, bias=False)
            self.expand = nn.Linear(settings.state, self.hidden)
            nn.init.orthogonal_(self.shrink.weight)
            with torch.no_grad():
                self.expand.weight.copy_(self.shrink.weight.T)
                self.expand.bias.zero_()

    @property
    def packs(self) -> bool:
        """Whether it wants packed batches; its own attention is packed always."""
        return self._packs

    def use_attention(self, kind: Attention) -> None:
        """Choose how batches come; both ways give the same."""
        self._packs = kind != "padded"

    @property
    def state(self) -> int:
        """Size of a product's state for each token, ``S``."""
        return self.settings.state or self.hidden

    @property
    def lower(self) -> nn.ModuleList:
        """The layers that each side goes through by itself."""
        return layers_of(self)[: self.settings.product_layers]

    @property
    def upper(self) -> nn.ModuleList:
        """The layers that bring the two together."""
        return layers_of(self)[self.settings.product_layers :]

    def forward(
        self,
        input_ids_BT: Tensor,
        attention: Tensor | Packed,
        token_type_ids_BT: Tensor | None,
        vectors_BTD: Tensor | None = None,
        second_start_B: Tensor | None = None,
        *,
        first_only: bool = False,
    ) -> Tensor:
        """Encode pairs, or single texts where ``second_start_B`` is not given; see `Encoder.forward`.

        Among all tokens those of the product have their states, where the query alone is updated.
        """
        if second_start_B is None:
            return super().forward(input_ids_BT, attention, token_type_ids_BT, vectors_BTD, first_only=first_only)
        tokens = attention if isinstance(attention, Packed) else Padded(attention)
        ids_N = input_ids_BT.flatten() if vectors_BTD is None else None  # vectors may differ where ids do not
        queries = _Segments.of(tokens.start_B, second_start_B, ids_N)
        products = _Segments.of(tokens.start_B + second_start_B, tokens.length_B - second_start_B, ids_N)
        vectors_BTD = self.look_up(input_ids_BT) if vectors_BTD is None else vectors_BTD
        vectors_KD = vectors_BTD.flatten(0, 1)

        def read(of: _Segments, offset: int) -> Tensor:
            type_N = None if token_type_ids_BT is None else token_type_ids_BT.flatten()[of.token_K]
            return self.apart(vectors_KD[of.token_K], type_N, of.packed, offset)

        own_MD = read(queries, 0)
        state_ND = self.restored(self.kept(read(products, self.settings.query_tokens)))
        pairs = _Pairs.of(queries, products)
        hidden_KD = self._together(own_MD[pairs.query_M], state_ND, pairs, first_only=first_only)
        if first_only:
            return torch.empty_like(hidden_KD).index_copy(0, pairs.pair_B, hidden_KD)
        token_K = tokens.start_B[pairs.pair_B][pairs.both.pair_N] + pairs.both.place_N
        all_KD = torch.zeros_like(vectors_KD, dtype=hidden_KD.dtype).index_copy(0, token_K, hidden_KD)
        return all_KD.view(vectors_BTD.shape)

    def apart(self, vectors_ND: Tensor, type_N: Tensor | None, packed: Tokens, offset: int) -> Tensor:
        """Send segments of one side through the layers below the split, ``[N, D]``.

        Parameters
        ----------
        vectors_ND, type_N
            Word embedding and segment of each token.
        packed
            Layout of the segments.
        offset
            Position of a segment's first token.
        """
        assert isinstance(packed, Packed)
        hidden_1ND: Tensor = self.model.embeddings(
            inputs_embeds=vectors_ND[None],
            position_ids=packed.place_N[None] + (self.first_position + offset),
            token_type_ids=type_N[None] if self.reads_types and type_N is not None else None,
        )
        for layer in self.lower:
            hidden_1ND = layer(hidden_1ND, packed=packed)
        return hidden_1ND[0]

    def side(self, batch: dict[str, Tensor], *, product: bool) -> Tensor:
        """Send packed segments of queries or of products through the layers below: vectors, or states to be kept."""
        types = batch.get("token_type_ids")
        given = (self.look_up(batch["input_ids"])[0], None if types is None else types[0], tokens_of(batch))
        return self.kept(self.apart(*given, self.settings.query_tokens)) if product else self.apart(*given, 0)

    def beside(self, own_MD: Tensor, state_NS: Tensor, length_B: Tensor) -> Tensor:
        """Send one query through the layers above, beside products of so many states each; gives [CLS], ``[B, D]``."""
        queries = _Segments.of(torch.zeros_like(length_B), torch.full_like(length_B, len(own_MD)))
        products = _Segments.of(length_B.cumsum(0) - length_B, length_B)
        pairs, state_ND = _Pairs.of(queries, products), self.restored(state_NS[products.token_K])
        first_BD = self._together(own_MD.repeat(len(length_B), 1), state_ND, pairs, first_only=True)
        return torch.empty_like(first_BD).index_copy(0, pairs.pair_B, first_BD)

    def kept(self, hidden_ND: Tensor) -> Tensor:
        """Project products' vectors to the states that are kept, ``[N, S]``."""
        return hidden_ND if self.shrink is None else self.shrink(hidden_ND)

    def restored(self, state_NS: Tensor) -> Tensor:
        """Project states to the size of the upper layers, ``[N, D]``."""
        return state_NS if self.expand is None else self.expand(state_NS)

    def _together(self, own_MD: Tensor, state_ND: Tensor, pairs: _Pairs, *, first_only: bool) -> Tensor:
        """Send pairs through the layers above; gives all tokens as ``pairs.both`` lays them out, or [CLS] of each."""
        if self.settings.updates == "both":
            both_1KD = torch.cat([own_MD, state_ND])[pairs.both_K][None]
            for layer in self.upper:
                both_1KD = layer(both_1KD, packed=pairs.both, first_only=first_only and layer is self.upper[-1])
            return both_1KD[0]
        for layer in self.upper:
            wanted = first_only and layer is self.upper[-1]
            all_1ND = torch.cat([own_MD, state_ND])[None]
            asking = pairs.asking.firsts if wanted else pairs.asking
            own_1MD = pairs.asking.first(own_MD[None])[None] if wanted else own_MD[None]
            own_MD = layer(own_1MD, seen_1ND=all_1ND, at_K=pairs.both_K, packed=pairs.both, asking=asking)[0]
        return own_MD if first_only else torch.cat([own_MD, state_ND])[pairs.both_K]


def start_projection(encoder: SplitEncoder, name: str) -> None:
    """Take over the projection of states of a pre-trained encoder, which `load_encoder` has loaded, if it has one.

    Raises
    ------
    UserError
        When it is of another size.
    """
    path = Path(place_of(name)) / PROJECTION
    if encoder.expand is None or not path.is_file():
        return
    weights = load_file(path)
    size = len(weights["shrink.weight"])
    if size != encoder.settings.state:
        problem = f"the encoder was pre-trained with states of {size} numbers, not {encoder.settings.state}."
        raise UserError(problem, file=path, remedy=f"Use --set model.interaction.state={size}.")
    encoder.load_state_dict(weights, strict=False)


def _check(config: Any, settings: Split) -> None:
    """Refuse an encoder that cannot be split like that."""
    kind, layers = config.model_type, config.num_hidden_layers
    if kind not in ARCHITECTURES:
        raise UserError(
            f"model.interaction=Split needs an encoder built like BERT, with positions in its embeddings: one of the "
            f"type {kind!r} has them within its attention, or layers that see only a part of the text.",
            remedy=f"Use {_FULL}, or an encoder of the type {', '.join(ARCHITECTURES)}.",
        )
    if settings.product_layers + (settings.query_layers or 1) > layers:
        above = "" if settings.query_layers is None else f" and query_layers={settings.query_layers}"
        remedy = f"Use --set model.interaction.product_layers={layers - 1}" if layers > 1 else f"Use {_FULL}"
        raise UserError(
            f"model.interaction has product_layers={settings.product_layers}{above}, and the encoder {layers} layers.",
            remedy=f"{remedy}; the query needs at least one above." if not above else "Lower one of them.",
        )
    if settings.state is not None and settings.state >= config.hidden_size:
        problem = f"model.interaction.state={settings.state} is no smaller than the encoder's {config.hidden_size}."
        raise UserError(problem, remedy="Use --set model.interaction.state=null, which keeps them whole.")

"""The layers above the split, from kept states: matrices of keys and values go to the query's side.

What       A key is ``W_k h + b_k`` of a state ``h``. Rather than for every token of every product, ``W_k`` is applied
           to the query's few tokens: ``q · (W_k h) = (W_kᵀ q) · h``; and a weighted sum of values is ``W_v`` of the
           weighted sum of states. What the first of these layers needs of the query is computed once for all products
Equation   ``softmax([q̃ · x, σ (p̃ · s) + q · W_k c])`` with ``q̃ = W_kᵀ q`` and ``p̃ = (W_k B)ᵀ q``; then ``W_v Σ w x +
           W_v B Σ w σ s + W_v c Σ w + b_v``. ``s`` is a kept state, ``σ`` its scale (int8), ``B`` and ``c`` restore it.
           The bias of keys is on both sides, where it cancels; ``c`` is on the product's alone, where it does not
Reference  our own; the products are those of linear attention's associativity
Our number no gain measured: no result of `score_catalogue.py` is kept yet; the scores are the same to 1e-5
Cost       for ``M`` tokens, ``H`` heads and a product of ``P`` tokens ``2 M H P S`` products in place of ``2 P D²``
Traps      only where fewer tokens are updated than a head has dimensions; else keys and values cost less

Legend: ``B`` products, ``M`` tokens of the query, ``P`` of the longest product, ``D`` hidden size, ``S`` size of a
state, ``H`` heads, ``E`` size of a head, ``K`` ``H · M``; what is the same for all products is ``[1, …]``.
"""

from typing import Any

import torch
from torch import Tensor, nn

from zhichun.model.interaction import SplitEncoder


class AbsorbedLayer(nn.Module):
    """One layer above the split.

    Parameters
    ----------
    layer
        Of the encoder; its feed-forward part is used as it is.
    expand
        What restores states, if they are kept smaller.
    """

    def __init__(self, layer: Any, expand: nn.Linear | None) -> None:
        super().__init__()
        self.layer = layer
        attention = layer.attention.self
        self.query, self.size, self.scaling = attention.query, attention.attention_head_size, attention.scaling
        self.key_HED = nn.Buffer(attention.key.weight.view(-1, self.size, attention.key.in_features))
        self.value_HDE = nn.Buffer(attention.value.weight.view(self.key_HED.shape).transpose(1, 2).contiguous())
        self.bias_D = attention.value.bias
        self.restores = expand is not None
        if expand is not None:
            self.key_HES = nn.Buffer(self.key_HED @ expand.weight)
            self.value_HSE = nn.Buffer(expand.weight.T @ self.value_HDE)
            self.key_shift_HE1 = nn.Buffer((self.key_HED @ expand.bias)[..., None])
            self.value_shift_HE = nn.Buffer((expand.bias @ self.value_HDE)[:, None])

    def forward(
        self, own_BMD: Tensor, state_BPS: Tensor, there_BP: Tensor, scale_BP: Tensor | None, *, first_only: bool
    ) -> Tensor:
        """Update a query's tokens beside each product, ``[B, M, D]``, or [CLS] alone, ``[B, 1, D]``."""
        asking_BMD = own_BMD[:, :1] if first_only else own_BMD
        query_BHME = self._heads(self.query(asking_BMD) * self.scaling)
        asked_BHMD = _by_head(query_BHME, self.key_HED)
        own_BKM = asked_BHMD.flatten(1, 2) @ own_BMD.transpose(1, 2)
        kept_BHMS = _by_head(query_BHME, self.key_HES) if self.restores else asked_BHMD
        kept_BKP = torch.matmul(kept_BHMS.flatten(1, 2), state_BPS.transpose(1, 2))
        if scale_BP is not None:
            kept_BKP *= scale_BP[:, None]
        if self.restores:
            kept_BKP += _by_head(query_BHME, self.key_shift_HE1).flatten(1, 2)
        kept_BKP.masked_fill_(~there_BP[:, None], -torch.inf)
        products, tokens = state_BPS.shape[0], own_BMD.shape[1]  # `len` would be a constant of an exported graph
        weight_BKT = torch.softmax(torch.cat([own_BKM.expand(products, -1, -1), kept_BKP], dim=2), dim=2)
        own_weight_BKM, weight_BKP = weight_BKT[..., :tokens], weight_BKT[..., tokens:]
        scaled_BKP = weight_BKP if scale_BP is None else weight_BKP * scale_BP[:, None]
        own_BHMD = self._unflat(own_weight_BKM @ own_BMD)
        mixed_BHMS = self._unflat(scaled_BKP @ state_BPS)
        if self.restores:
            context_BHME = _by_head(own_BHMD, self.value_HDE) + _by_head(mixed_BHMS, self.value_HSE)
            context_BHME += self._unflat(weight_BKP.sum(dim=2, keepdim=True)) * self.value_shift_HE
        else:
            context_BHME = _by_head(own_BHMD + mixed_BHMS, self.value_HDE)
        context_BMD = context_BHME.transpose(1, 2).flatten(2) + self.bias_D
        updated_BMD: Tensor = self.layer.feed_forward_chunk(self.layer.attention.output(context_BMD, asking_BMD))
        return updated_BMD

    def _heads(self, vectors_BMD: Tensor) -> Tensor:
        return vectors_BMD.view(*vectors_BMD.shape[:2], -1, self.size).transpose(1, 2)

    def _unflat(self, vectors_BKX: Tensor) -> Tensor:
        return vectors_BKX.view(vectors_BKX.shape[0], len(self.key_HED), -1, vectors_BKX.shape[2])


def _by_head(vectors_BHMX: Tensor, weight_HXY: Tensor) -> Tensor:
    """Multiply by the matrix of each head, all products at once: `matmul` would copy it for each product."""
    products, heads, tokens, size = vectors_BHMX.shape
    rows_HRX = vectors_BHMX.transpose(0, 1).reshape(heads, products * tokens, size)
    return torch.bmm(rows_HRX, weight_HXY).view(heads, products, tokens, -1).transpose(0, 1)


class Absorbed(nn.Module):
    """All layers above the split, for one query and some products.

    Parameters
    ----------
    encoder
        One that updates the query alone; in evaluation.
    """

    def __init__(self, encoder: SplitEncoder) -> None:
        super().__init__()
        assert encoder.settings.updates == "query"
        self.layers = nn.ModuleList(AbsorbedLayer(layer, encoder.expand) for layer in encoder.upper)
        # For queries of fewer tokens than a head has dimensions this form is the faster one.
        self.head_size = encoder.hidden // int(encoder.model.config.num_attention_heads)

    def forward(self, own_1MD: Tensor, state_BPS: Tensor, there_BP: Tensor, scale_BP: Tensor | None = None) -> Tensor:
        """Compute [CLS] of the query beside each product, ``[B, D]``.

        Parameters
        ----------
        own_1MD
            The query's tokens after the layers below the split.
        state_BPS, there_BP
            States of the products, and which of them are there and not padding.
        scale_BP
            What each state is to be multiplied by, where they are kept as whole numbers.
        """
        own_BMD = own_1MD
        for layer in self.layers:
            own_BMD = layer(own_BMD, state_BPS, there_BP, scale_BP, first_only=layer is self.layers[-1])
        return own_BMD[:, 0]

"""Shapes of encoders that start from nothing, in XLM-R's architecture."""

from dataclasses import dataclass
from typing import Final

from transformers import PretrainedConfig, XLMRobertaConfig

from zhichun.core.errors import UserError
from zhichun.text.tokenizer import PairTokenizer

TINY: Final = "tiny"


@dataclass(frozen=True, kw_only=True)
class TinyEncoder:
    """Shape of the encoder that starts from nothing.

    Parameters
    ----------
    layers
        Transformer layers.
    hidden
        Size of a token's vector.
    heads
        Attention heads.
    pieces
        Size of the tokenizer's vocabulary, trained on the catalogue.
    dropout
        Dropout within the encoder.
    matching_layers
        Layers whose attention starts by looking for the query's tokens in the product (see `nn.matching_start`); null
        is the usual random start.
    """

    layers: int = 4
    hidden: int = 128
    heads: int = 4
    pieces: int = 8000
    dropout: float = 0.0
    matching_layers: int | None = 2


def tiny_config(shape: TinyEncoder, tokenizer: PairTokenizer, max_length: int) -> PretrainedConfig:
    """Configure the tiny encoder: XLM-R's architecture, with a second token type for the product."""
    if shape.hidden % shape.heads:
        raise UserError(f"model.tiny.hidden={shape.hidden} cannot be divided by model.tiny.heads={shape.heads}.")
    pad = tokenizer.pad_id
    return XLMRobertaConfig(
        vocab_size=tokenizer.tokenizer.get_vocab_size(),
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.hidden,
        hidden_dropout_prob=shape.dropout,
        attention_probs_dropout_prob=shape.dropout,
        max_position_embeddings=max_length + pad + 1,
        type_vocab_size=2,
        pad_token_id=pad,
        bos_token_id=tokenizer.layout.prefix[0],
        eos_token_id=tokenizer.layout.suffix[-1],
    )


def plain_config(
    *, pieces: int, layers: int, hidden: int, heads: int, intermediate: int, max_length: int
) -> PretrainedConfig:
    """Configure an encoder of XLM-R's architecture by its shape, with the dropout that it comes with."""
    return XLMRobertaConfig(
        vocab_size=pieces,
        num_hidden_layers=layers,
        hidden_size=hidden,
        num_attention_heads=heads,
        intermediate_size=intermediate,
        max_position_embeddings=max_length + 2,  # it counts from the row after the padding's
    )

"""Settings of the encoder: which one, its input, its initial weights; shapes of untrained encoders.

An untrained encoder may start so that tokens of the query attend to equal tokens in the product:

What       Initialises the first layers' attention so that a token attends to the same token on the other side of the
           pair
Equation   with a token type ``±u`` on each token: ``W_Q = a R (I − 2 u uᵀ)``, ``W_K = a R``, ``R`` orthogonal, so that
           ``q·k = a² (same token + |u|²)`` across the two sides and ``a² (same token − |u|²)`` within one;
           ``W_O W_V = v² I``
Reference  our own, after Trockman and Kolter, 2023, *Mimetic Initialization of Self-Attention Layers*
Our number sample shop, recipe `tiny`, three seeds: nDCG 0.955 against 0.852 from the usual random start, micro-F1 0.730
           against 0.662 (`benchmarks/tiny_start.py`)
Cost       none
Traps      needs two token types; meant for encoders that are not pre-trained, and would destroy a pre-trained one; of
           a split one (`model.interaction`) the first layers above the split are meant

Legend: ``D`` hidden size.
"""

from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, XLMRobertaConfig

from zhichun.core.errors import UserError
from zhichun.core.settings import require_range
from zhichun.model.encoder import Encoder, load_encoder, load_encoder_config, new_encoder, place_of
from zhichun.model.interaction import Full, Split, SplitEncoder, start_projection
from zhichun.text.pairs import FIELDS, check_fields
from zhichun.text.tokenizer import PairTokenizer

SHARPNESS = 1.5
SIDE = 0.5
CARRIED = 0.7
POSITION_STD = 0.05
NOISE_STD = 0.02


@torch.no_grad()
def start_matching(encoder: Encoder, layers: int) -> None:
    """Rewrite the random weights of an untrained encoder."""
    model = encoder.model
    hidden = encoder.hidden
    side_D = torch.randn(hidden)
    side_D /= side_D.norm()
    embeddings = model.embeddings
    nn.init.normal_(embeddings.word_embeddings.weight)
    nn.init.normal_(embeddings.position_embeddings.weight, std=POSITION_STD)
    length = SIDE * hidden**0.5
    embeddings.token_type_embeddings.weight.copy_(torch.stack([length * side_D, -length * side_D]))
    mirror_DD = torch.eye(hidden) - 2 * torch.outer(side_D, side_D)
    met: Any = encoder.upper if isinstance(encoder, SplitEncoder) else model.encoder.layer
    for layer in met[:layers]:
        attention = layer.attention
        look_DD, carry_DD = SHARPNESS * _orthogonal(hidden), CARRIED * _orthogonal(hidden)
        attention.self.query.weight.copy_(look_DD @ mirror_DD + NOISE_STD * torch.randn(hidden, hidden))
        attention.self.key.weight.copy_(look_DD + NOISE_STD * torch.randn(hidden, hidden))
        attention.self.value.weight.copy_(carry_DD)
        attention.output.dense.weight.copy_(carry_DD.T)


def _orthogonal(size: int) -> Tensor:
    return torch.linalg.qr(torch.randn(size, size))[0]


TINY: Final = "tiny"
LONGEST: Final = 65_536


@dataclass(frozen=True, kw_only=True)
class TinyEncoder:
    """Shape of the untrained encoder.

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
        Layers whose attention is initialised to match the query's tokens in the product (docs/model.md); null is
        the usual random initialisation.
    """

    layers: int = 4
    hidden: int = 128
    heads: int = 4
    pieces: int = 8000
    dropout: float = 0.0
    matching_layers: int | None = 2

    def __post_init__(self) -> None:
        require_range(self, "layers", "hidden", "heads", "pieces", least=1, prefix="model.tiny.")
        require_range(self, "dropout", least=0, below=1, prefix="model.tiny.")
        off = "Switch them off with model.tiny.matching_layers=null."
        require_range(self, "matching_layers", least=1, prefix="model.tiny.", remedy=off)


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


@dataclass(frozen=True, kw_only=True)
class EncoderSettings:
    """The encoder and its input.

    Parameters
    ----------
    encoder
        A transformers encoder by hub name or path (`microsoft/infoxlm-large`), the run folder of `zhichun pretrain`, or
        `tiny`: an untrained one.
    tiny
        Shape of the tiny encoder; an error for any other encoder.
    max_length
        Maximum number of tokens of a text or a pair; the longer of query and product is truncated first.
    fields
        The product's fields, in the encoder's order.
    interaction
        `Full` reads query and product together; `Split` apart, so that an index can keep products' states.
    """

    encoder: str = TINY
    tiny: TinyEncoder = field(default_factory=TinyEncoder)
    max_length: int = 256
    fields: tuple[str, ...] = FIELDS
    interaction: Full | Split = field(default_factory=Full)

    def __post_init__(self) -> None:
        check_fields(self.fields)
        few = "Fewer leave no room for a pair; no encoder reads more."
        require_range(self, "max_length", least=8, most=LONGEST, prefix="model.", remedy=few)
        if self.encoder != TINY and self.tiny != TinyEncoder():
            problem = f"settings of model.tiny have no effect: the encoder {self.encoder!r} has a shape of its own."
            raise UserError(problem, remedy="Leave them out, with --set model.tiny=TinyEncoder.")
        if self.query_tokens is not None and self.query_tokens > self.max_length - 4:
            raise UserError(
                f"model.interaction.query_tokens={self.query_tokens} leave a product nothing of "
                f"model.max_length={self.max_length}.",
                remedy=f"Use --set model.interaction.query_tokens={self.max_length // 2}, or a longer max_length.",
            )

    @property
    def query_tokens(self) -> int | None:
        """Tokens of the query's segment at most, where query and product are read apart."""
        return self.interaction.query_tokens if isinstance(self.interaction, Split) else None

    def encoder_of(self, encoder: Encoder) -> Encoder:
        """Return an encoder that brings query and product together as these settings say.

        Raises
        ------
        UserError
            When it cannot be split.
        """
        return SplitEncoder(encoder.model, self.interaction) if isinstance(self.interaction, Split) else encoder


def hidden_size(settings: EncoderSettings) -> int:
    """Return the size of a token's vector.

    Raises
    ------
    UserError
        When the encoder has no configuration that can be loaded.
    """
    if settings.encoder == TINY:
        return settings.tiny.hidden
    try:
        return int(load_encoder_config(place_of(settings.encoder)).hidden_size)
    except (OSError, ValueError, AttributeError) as error:
        problem = f"the encoder {settings.encoder!r} has no configuration with its size."
        remedy = "Give the name of a transformers encoder that is cached or can be fetched, or a folder of one."
        raise UserError(problem, remedy=remedy) from error


def start_encoder(settings: EncoderSettings, tokenizer: PairTokenizer) -> Encoder:
    """Build the encoder with its initial weights; the caller seeds torch.

    Parameters
    ----------
    settings
        Which one.
    tokenizer
        Its tokenizer, which decides the size of the tiny encoder's table.

    Raises
    ------
    UserError
        When it cannot be loaded, or reads fewer tokens than `max_length`.
    """
    if settings.encoder == TINY:
        encoder = settings.encoder_of(new_encoder(tiny_config(settings.tiny, tokenizer, settings.max_length)))
        if settings.tiny.matching_layers is not None:
            start_matching(encoder, settings.tiny.matching_layers)
        return encoder
    encoder = settings.encoder_of(load_encoder(settings.encoder))
    if isinstance(encoder, SplitEncoder):
        start_projection(encoder, settings.encoder)
    if encoder.room is not None and settings.max_length > encoder.room:
        remedy = f"Use --set model.max_length={encoder.room}."
        raise UserError(f"the encoder {settings.encoder!r} reads {encoder.room} tokens at most.", remedy=remedy)
    return encoder

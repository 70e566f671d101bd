"""Settings of the encoder: which one, its input, its initial weights; shapes of untrained encoders."""

from dataclasses import dataclass, field
from typing import Final

from transformers import PretrainedConfig, XLMRobertaConfig

from zhichun.core.errors import UserError
from zhichun.core.settings import require_range
from zhichun.model.encoder import Encoder, load_encoder, load_encoder_config, new_encoder, place_of
from zhichun.model.interaction import Full, Split, SplitEncoder, start_projection
from zhichun.model.matching_start import start_matching
from zhichun.text.document import FIELDS, check_fields
from zhichun.text.tokenizer import PairTokenizer

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
        Layers whose attention is initialised to match the query's tokens in the product (`model.matching_start`); null
        is the usual random initialisation.
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
            raise UserError(
                f"settings of model.tiny have no effect: the encoder {self.encoder!r} has a shape of its own.",
                remedy="Leave them out, with --set model.tiny=TinyEncoder.",
            )
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
        raise UserError(
            f"the encoder {settings.encoder!r} has no configuration with its size.",
            remedy="Give the name of a transformers encoder that is cached or can be fetched, or a folder of one.",
        ) from error


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
        raise UserError(
            f"the encoder {settings.encoder!r} reads {encoder.room} tokens at most.",
            remedy=f"Use --set model.max_length={encoder.room}.",
        )
    return encoder

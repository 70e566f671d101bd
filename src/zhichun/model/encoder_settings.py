"""Which encoder a model has, what it reads, and where its weights start."""

from dataclasses import dataclass, field

from zhichun.core.errors import UserError
from zhichun.model.encoder import Encoder, load_encoder, new_encoder
from zhichun.model.encoder_shapes import TINY, TinyEncoder, tiny_config
from zhichun.model.matching_start import start_matching
from zhichun.text.document import FIELDS, check_fields
from zhichun.text.tokenizer import PairTokenizer


@dataclass(frozen=True, kw_only=True)
class EncoderSettings:
    """Which encoder, and what it reads.

    Parameters
    ----------
    encoder
        A transformers encoder by hub name or path (`microsoft/infoxlm-large`), the run folder of `zhichun pretrain`, or
        `tiny`: one from nothing.
    tiny
        Shape of the tiny encoder; refused for any other, which has its own.
    max_length
        Tokens that a text or a pair is cut to, the longer of query and product first.
    fields
        The product's fields in the order in which the encoder reads them.
    """

    encoder: str = TINY
    tiny: TinyEncoder = field(default_factory=TinyEncoder)
    max_length: int = 256
    fields: tuple[str, ...] = FIELDS

    def __post_init__(self) -> None:
        check_fields(self.fields)
        if self.max_length < 8:
            raise UserError(f"model.max_length={self.max_length} leaves no room for a pair; give 8 or more.")
        if self.encoder != TINY and self.tiny != TinyEncoder():
            raise UserError(
                f"settings of model.tiny have no effect: the encoder {self.encoder!r} has a shape of its own.",
                remedy="Leave them out, with --set model.tiny=TinyEncoder.",
            )


def start_encoder(settings: EncoderSettings, tokenizer: PairTokenizer) -> Encoder:
    """Make the encoder with its starting weights; the caller seeds torch.

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
        encoder = new_encoder(tiny_config(settings.tiny, tokenizer, settings.max_length))
        if settings.tiny.matching_layers is not None:
            start_matching(encoder, settings.tiny.matching_layers)
        return encoder
    encoder = load_encoder(settings.encoder)
    if encoder.room is not None and settings.max_length > encoder.room:
        raise UserError(
            f"the encoder {settings.encoder!r} reads {encoder.room} tokens at most.",
            remedy=f"Use --set model.max_length={encoder.room}.",
        )
    return encoder

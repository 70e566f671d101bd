"""The text encoder: any transformers encoder by name or path, or an untrained tiny one.

This is the only module that imports transformers' model classes.

Legend: ``B`` pairs, ``T`` tokens, ``D`` hidden size, ``V`` pieces; a packed batch is one row, ``B = 1``.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
)
from transformers.utils import cached_file, logging

from zhichun.core.errors import UserError
from zhichun.core.files import check_hashes
from zhichun.model import attention as packed_attention
from zhichun.model.attention import Packed, exchange_dropout, tokens_of
from zhichun.model.layers import let_layers_update_some
from zhichun.text.pairs import SECOND_START
from zhichun.text.tokenizer import PairTokenizer

ENCODER_FOLDER = "encoder"
PROJECTION = "projection.safetensors"
Attention = Literal["auto", "padded", "packed"]
# Classification heads of transformers that compute what `model.parts.Head` does: the names of their two layers.
_OF_CLASS: Final = {
    "bert": ("bert.pooler.dense", "classifier"),
    "deberta-v2": ("pooler.dense", "classifier"),
    **dict.fromkeys(("camembert", "mpnet", "roberta", "xlm-roberta"), ("classifier.dense", "classifier.out_proj")),
}


class Encoder(nn.Module):
    """A transformers encoder that returns the vector of the first token.

    Parameters
    ----------
    model
        The bare encoder. A pooling layer is removed, because it would not be trained.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        if getattr(model, "pooler", None) is not None:
            model.pooler = None
        exchange_dropout(model)
        self.model = model
        self.heeds_first_only = let_layers_update_some(self)
        self.reads_types = getattr(model.config, "type_vocab_size", 0) > 1

    @property
    def hidden(self) -> int:
        """Size of the vector, ``D``."""
        return int(self.model.config.hidden_size)

    @property
    def room(self) -> int | None:
        """Maximum number of tokens; ``None`` is unbounded."""
        room: int | None = getattr(self.model.config, "max_position_embeddings", None)
        return room if room is None else room - self.first_position

    @property
    def first_position(self) -> int:
        """Position of a pair's first token: in XLM-R the one after the padding's, elsewhere 0."""
        table = getattr(getattr(self.model, "embeddings", None), "position_embeddings", None)
        padding: int | None = getattr(table, "padding_idx", None)
        return 0 if padding is None else padding + 1

    @property
    def packs(self) -> bool:
        """Whether it supports packed batches."""
        return bool(self.model.config._attn_implementation == packed_attention.NAME)

    def use_attention(self, kind: Attention) -> None:
        """Switch packed batches on or off; padded ones always work.

        Parameters
        ----------
        kind
            ``packed``, ``padded``, or ``auto``: packed if the architecture supports it.

        Raises
        ------
        UserError
            When it is to be packed and its attention cannot be exchanged, such as DeBERTa's, which looks at distances.
        """
        architecture = self.model.config.model_type
        can_pack = architecture in packed_attention.ARCHITECTURES
        if kind == "padded" or (kind == "auto" and not can_pack):
            if self.packs:
                self.model.set_attn_implementation("sdpa")
            return
        if not can_pack:
            remedy = f"Use --set train.attention=padded, or one of {', '.join(packed_attention.ARCHITECTURES)}."
            raise UserError(f"an encoder of type {architecture!r} does not support packed batches.", remedy=remedy)
        self.model.set_attn_implementation(packed_attention.NAME)

    @property
    def table(self) -> Tensor:
        """The word embeddings, ``[V, D]``, under any architecture's name."""
        weight: Tensor = self.model.get_input_embeddings().weight
        return weight

    def look_up(self, input_ids_BT: Tensor) -> Tensor:
        """Look the tokens' vectors up in the table, before positions and types, ``[B, T, D]``."""
        vectors_BTD: Tensor = self.model.get_input_embeddings()(input_ids_BT)
        return vectors_BTD

    def read(self, batch: dict[str, Tensor], vectors_BTD: Tensor | None = None, *, first_only: bool = False) -> Tensor:
        """Encode a batch of `Pairs.collate` or of a pretext task; see `forward`."""
        types_BT, second_start_B = batch.get("token_type_ids"), batch.get(SECOND_START)
        given = (batch["input_ids"], tokens_of(batch).attention, types_BT, vectors_BTD)
        encoded: Tensor = self(*given, second_start_B, first_only=first_only)
        return encoded

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
        """Encode pairs.

        Parameters
        ----------
        input_ids_BT, token_type_ids_BT
            The tokens; padding stands at the end.
        attention
            Which of them see each other: the mask of a padded batch, ``[B, T]``, or how a packed one lies.
        vectors_BTD
            From `look_up`, possibly perturbed; looked up by default.
        second_start_B
            Where the product's segment begins, for encoders that read the two apart (`model.interaction`).
        first_only
            Whether the first token of each pair is all that is wanted: the last layer then computes no other, where
            the architecture allows (`model.layers`).

        Returns
        -------
        Tensor
            The vectors of all tokens, ``[B, T, D]``, of which the first one stands for the pair, or the first ones
            alone, ``[B, D]``.
        """
        assert second_start_B is None
        read: dict[str, Any] = {"input_ids": input_ids_BT} if vectors_BTD is None else {"inputs_embeds": vectors_BTD}
        if self.reads_types and token_type_ids_BT is not None:
            read["token_type_ids"] = token_type_ids_BT
        if isinstance(attention, Packed):
            read |= {"position_ids": attention.place_N[None] + self.first_position, "packed": attention}
        else:
            read["attention_mask"] = attention
        if first_only and self.heeds_first_only:
            first_B1D: Tensor = self.model(first_only=True, **read).last_hidden_state.float()
            return first_B1D.flatten(0, 1)
        hidden_BTD: Tensor = self.model(**read).last_hidden_state.float()
        if not first_only:
            return hidden_BTD
        return attention.first(hidden_BTD) if isinstance(attention, Packed) else hidden_BTD[:, 0]


def new_encoder(config: PretrainedConfig) -> Encoder:
    """Make an encoder of that configuration with random weights in float32."""
    return Encoder(AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False))


def load_encoder(name: str) -> Encoder:
    """Load an encoder by hub name or path, always in float32.

    Raises
    ------
    UserError
        When it does not exist, has no weights, or lacks some of them.
    """
    remedy = "Give the name of a transformers encoder that is cached or can be fetched, or a folder that holds one."
    name = place_of(name)
    check_hashes(Path(name), "Copy the folder again, or make it again with: zhichun pretrain")
    try:
        with quietly():
            model, info = AutoModel.from_pretrained(
                name, dtype=torch.float32, output_loading_info=True, trust_remote_code=False
            )
    except Exception as error:  # what is raised depends on the file that is missing or cut off
        raise UserError(f"the encoder {name!r} cannot be loaded ({_first_line(error)}).", remedy=remedy) from error
    missing = sorted(key for key in info["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise UserError(f"the encoder {name!r} has {len(missing)} missing weights, e.g. {missing[0]}.", remedy=remedy)
    return Encoder(model)


class LMHead(NamedTuple):
    """The masked-language-model head of a checkpoint.

    Parameters
    ----------
    dense, norm
        The transform, with GELU between the two.
    bias_V
        Of each piece; the decoder itself is the encoder's own table.
    """

    dense: nn.Linear
    norm: nn.LayerNorm
    bias_V: Tensor


def load_lm_head(name: str) -> LMHead | None:
    """Load the head of a masked language model from a checkpoint; ``None`` where it has none, or one of another shape.

    Parameters
    ----------
    name
        As for `load_encoder`, which has loaded the encoder.
    """
    try:
        with quietly():
            model, info = AutoModelForMaskedLM.from_pretrained(
                place_of(name), dtype=torch.float32, output_loading_info=True, trust_remote_code=False
            )
    except Exception:  # an architecture that is no masked language model raises whatever it likes
        return None
    inside = f"{model.base_model_prefix}."
    beside = [module for part, module in model.named_modules() if part and not part.startswith(inside)]
    decoder, table = model.get_output_embeddings(), model.get_input_embeddings()
    dense = [module for module in beside if isinstance(module, nn.Linear) and module is not decoder]
    norm = [module for module in beside if isinstance(module, nn.LayerNorm)]
    found = (getattr(model.config, key, "gelu") for key in ("hidden_act", "activation", "hidden_activation"))
    trained = all(key.startswith(inside) for key in info["missing_keys"])
    if not trained or {*found} != {"gelu"} or len(dense) != 1 or len(norm) != 1:
        return None
    if decoder is None or decoder.weight is not table.weight or decoder.bias is None:
        return None
    return LMHead(dense[0], norm[0], decoder.bias.detach())


def place_of(name: str) -> str:
    """Find the encoder in the run folder of a pre-training; any other name or path is returned unchanged.

    Raises
    ------
    UserError
        When a run folder holds no encoder.
    """
    folder = Path(name)
    if not (folder / "recipe.json").is_file():
        return name
    if (folder / ENCODER_FOLDER / "config.json").is_file():
        return str(folder / ENCODER_FOLDER)
    remedy = "Name a finished run of `zhichun pretrain`; resume an interrupted one with --resume."
    raise UserError("the run holds no encoder.", file=folder, remedy=remedy)


def file_of(name: str, file: str) -> Path:
    """Find a file beside an encoder that was loaded by hub name or path; there is none at the path otherwise."""
    found = cached_file(
        place_of(name), file, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False
    )
    return Path(found or "")


def save_encoder(encoder: Encoder, folder: Path) -> None:
    """Write ``config.json`` and ``model.safetensors`` as `AutoModel` reads them, without a pooling layer.

    What it has beside them, a projection of states (`model.interaction`), is written to a file of its own.
    """
    encoder.model.config.architectures = [type(encoder.model).__name__]
    encoder.model.config.save_pretrained(folder)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in encoder.state_dict().items()}
    bare = {name.removeprefix("model."): state.pop(name) for name in [*state] if name.startswith("model.")}
    save_file(bare, folder / "model.safetensors", metadata={"format": "pt"})
    if state:
        save_file(state, folder / PROJECTION)


def sequence_classifier(encoder: Encoder, dense: nn.Linear, last: nn.Linear) -> Any:
    """Put an encoder and the layers of a head with one output into transformers' class, ``…ForSequenceClassification``.

    Raises
    ------
    UserError
        When the class of its kind has another head.
    """
    config = copy.deepcopy(encoder.model.config)
    kind = config.model_type
    if kind not in _OF_CLASS:
        problem = f"transformers' classifier of the kind {kind!r} has another head than the model: it has other scores."
        remedy = f"Use --for opensearch or --for vespa, or an encoder of a kind that has it: {', '.join(_OF_CLASS)}."
        raise UserError(problem, remedy=remedy)
    config.num_labels = 1
    config.id2label, config.label2id = {0: "relevance"}, {"relevance": 0}
    if hasattr(config, "pooler_hidden_act"):
        config.pooler_hidden_act = "tanh"  # of DeBERTa, which has GELU otherwise
    model = AutoModelForSequenceClassification.from_config(
        config, dtype=torch.float32, attn_implementation="eager", trust_remote_code=False
    )
    weights = {f"{model.base_model_prefix}.{name}": tensor for name, tensor in encoder.model.state_dict().items()}
    for name, layer in zip(_OF_CLASS[kind], (dense, last), strict=True):
        weights |= {f"{name}.{part}": tensor for part, tensor in layer.state_dict().items()}
    model.load_state_dict(weights)
    return model.eval()


def load_encoder_config(folder: Path | str) -> PretrainedConfig:
    """Read the configuration that `save_encoder` wrote, or that of a checkpoint."""
    return AutoConfig.from_pretrained(folder, trust_remote_code=False)


def load_tokenizer(name: str) -> PairTokenizer:
    """Load an encoder's fast tokenizer by hub name or path.

    Raises
    ------
    UserError
        When there is none, or only a slow one, or one without a vocabulary.
    """
    remedy = "Give a name that is cached or can be fetched, or a folder that holds a tokenizer.json."
    name = place_of(name)
    try:
        loaded = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        tokenizer: Tokenizer = loaded.backend_tokenizer
    except Exception as error:  # as above
        problem = f"no fast tokenizer can be loaded for {name!r} ({_first_line(error)})."
        raise UserError(problem, remedy=remedy) from error
    # Where the files are missing, transformers makes up a tokenizer that knows the special tokens alone.
    if len(set(loaded.get_vocab()) - set(loaded.all_special_tokens)) < 2:
        raise UserError(f"the tokenizer of {name!r} has no vocabulary.", remedy=remedy)
    return PairTokenizer(tokenizer)


@contextmanager
def quietly() -> Iterator[None]:
    """Silence transformers' reports of missing weights that are not needed or that we report ourselves."""
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]

"""The network as an ONNX graph with a free number of pairs and tokens.

Legend: ``B`` pairs, ``T`` tokens, ``M`` tokens of a query, ``C`` outputs, ``D`` hidden size, ``F`` size of the side
features, ``S`` size of a state.
"""

import copy
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from zhichun.core.errors import UserError
from zhichun.core.tasks import Task, gain_vector
from zhichun.model.absorbed import Absorbed
from zhichun.model.interaction import SplitEncoder
from zhichun.model.model_folder import TrainedModel
from zhichun.model.parts import IdEmbeddings, NgramUnit
from zhichun.model.relevance_model import BeforeLists, OverLists, RelevanceModel
from zhichun.score.engine import required
from zhichun.score.export.export_folder import (
    IDS,
    LISTED,
    LISTS_FILE,
    LOWER,
    OUTPUT,
    PRODUCT,
    QUERY,
    SIDE,
    STATES,
    TRIGRAMS,
    UPPER,
    VECTORS,
    GraphInputs,
)
from zhichun.score.similarity import GRAPH, READ, Similarity
from zhichun.text.tokenizer import PairLayout

OPSET: Final = 20  # the first with Gelu as one operator, and the last that OpenVINO and onnxruntime know in full
TWO_GIB: Final = 2**31 - 2**24  # an ONNX file holds less; larger weights lie beside it
SCORE: Final = "score"  # the output of a graph for other engines
_EXAMPLE: Final = (3, 7)  # pairs and tokens to trace with; neither 0 nor 1, which would be taken for constants


class LowerGraph(nn.Module):
    """The layers below the split for segments of one side, padded: states of products, or queries' tokens."""

    def __init__(self, encoder: SplitEncoder, segment: int, *, product: bool) -> None:
        super().__init__()
        self.encoder, self.segment, self.product = encoder, segment, product

    def forward(self, input_ids_BT: Tensor, attention_mask_BT: Tensor) -> Tensor:
        """Return ``[B, T, S]`` of products, else ``[B, T, D]``."""
        encoder, places_T = self.encoder, torch.arange(input_ids_BT.shape[1])
        hidden_BTD = encoder.model.embeddings(
            input_ids=input_ids_BT,
            position_ids=places_T[None] + encoder.first_position + self.product * encoder.settings.query_tokens,
            token_type_ids=torch.full_like(input_ids_BT, self.segment) if encoder.reads_types else None,
        )
        for layer in encoder.lower:
            hidden_BTD = layer(hidden_BTD, _additive(attention_mask_BT))
        return encoder.kept(hidden_BTD) if self.product else hidden_BTD


class UpperGraph(nn.Module):
    """From one query's tokens and states of products, padded, to logits; a query of any length."""

    def __init__(self, model: RelevanceModel) -> None:
        super().__init__()
        assert isinstance(model.encoder, SplitEncoder)
        self.encoder, self.head, self.reads_lists = model.encoder, model.head, model.lists is not None
        self.absorbed = Absorbed(self.encoder).eval() if self.encoder.settings.updates == "query" else None

    def forward(
        self, own_1MD: Tensor, states_BTS: Tensor, there_BT: Tensor, scales_BT: Tensor, side_BF: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return ``[B, C]``, and of a model that reads lists the pairs' vectors too."""
        if self.absorbed is not None:
            first_BD = self.absorbed(own_1MD, states_BTS, there_BT > 0, scales_BT)
        else:
            hidden_BTD = self.encoder.restored(states_BTS * scales_BT[..., None])
            hidden_BTD = torch.cat([own_1MD.expand(hidden_BTD.shape[0], -1, -1), hidden_BTD], dim=1)
            mask = _additive(functional.pad(there_BT, (own_1MD.shape[1], 0), value=1))
            for layer in self.encoder.upper:
                hidden_BTD = layer(hidden_BTD, mask, first_only=layer is self.encoder.upper[-1])
            first_BD = hidden_BTD[:, 0]
        vectors_BF = first_BD if side_BF is None else torch.cat([first_BD, side_BF], dim=1)
        logits_BC: Tensor = self.head(vectors_BF)
        return (logits_BC, vectors_BF) if self.reads_lists else logits_BC


def _additive(mask_BT: Tensor) -> Tensor:
    """Turn a mask of ones into what is added to scores, ``[B, 1, 1, T]``."""
    return (1 - mask_BT[:, None, None].float()) * torch.finfo(torch.float32).min


class Given(nn.Module):
    """Stands for a part that is computed outside the graph, and gives what was handed in."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Return ``[B, S]``."""
        return batch[SIDE]


def inputs_of(trained: TrainedModel) -> GraphInputs:
    """Take the tables of the side features out of a network, and name what its graph reads, in order."""
    model, layout = trained.model, trained.featurizer.tokenizer.layout
    tables: dict[str, Any] = {}
    if isinstance(model.ids, IdEmbeddings):
        tables = {name: table.weight for name, table in model.ids.tables.items() if name in IDS}
    if isinstance(model.ngrams, NgramUnit):
        tables[TRIGRAMS] = model.ngrams.bag.weight
    types = model.encoder.reads_types and layout.first_type != layout.second_type
    names = ("input_ids", "attention_mask", *(("token_type_ids",) if types else ()), *((SIDE,) if tables else ()))
    return GraphInputs(names, {name: weight.detach().cpu().numpy() for name, weight in tables.items()})


def scoring_graph(model: RelevanceModel, size: int) -> RelevanceModel:
    """Copy a network as what is exported: its side features are given."""
    made = copy.deepcopy(model).cpu().eval().requires_grad_(requires_grad=False)
    # A plain product with an additive mask: what the runtimes know how to fuse.
    made.encoder.model.set_attn_implementation("eager")
    made.ids = None
    made.ngrams = Given(size) if size else None  # type: ignore[assignment]
    return made


class OneScore(nn.Module):
    """A network that gives what its task ranks by, ``[B, 1]``, in place of logits."""

    weight_C1: Tensor | None

    def __init__(self, model: RelevanceModel, task: Task) -> None:
        super().__init__()
        self.model, self.temperature = model, task.calibration.temperature
        weight = torch.from_numpy(gain_vector()) if task.name == "esci" else torch.tensor([0.0, 1.0])
        self.register_buffer("weight_C1", weight[:, None] if task.classes else None)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Return ``[B, 1]``."""
        logits_BC = self.model(batch)
        if self.weight_C1 is None:
            return torch.sigmoid(logits_BC)
        return torch.softmax(logits_BC / self.temperature, dim=1) @ self.weight_C1


def write_one_score(trained: TrainedModel, names: Sequence[str], path: Path) -> None:
    """Export a network without side features, with one output ``score``; ``names`` are the inputs that it shall have.

    Raises
    ------
    UserError
        When it cannot be exported, or its weights do not fit into one file.
    """
    rows, tokens = torch.export.Dim("pairs", min=1), torch.export.Dim("tokens", min=2)
    model = OneScore(scoring_graph(trained.model, 0), trained.task)
    free = {name: {0: rows, 1: tokens} for name in names}
    with _refusing(trained.model.encoder.model.config.model_type):
        _write(model, path, {"batch": _example(tuple(names), 0)}, {"batch": free}, names, [SCORE])
    if path.with_name(f"{path.name}.data").exists():
        raise UserError(
            "the model has more than 2 GiB of weights, which one ONNX file does not hold.",
            remedy="Train a student of a smaller encoder with: zhichun train distil:one_score",
        )


@contextmanager
def _refusing(kind: str) -> Iterator[None]:
    """Turn whatever torch's exporter meets in a network into an error for users."""
    for library in ("onnx", "onnxscript"):
        required(library)
    try:
        yield
    except Exception as error:
        raise UserError(
            f"an encoder of the kind {kind!r} cannot be exported ({_cause(error)}).",
            remedy="Score the run with torch, or train an encoder of the kind of BERT or XLM-R.",
        ) from error


def write_onnx(trained: TrainedModel, inputs: GraphInputs, path: Path) -> None:
    """Export a network with torch.onnx; ``inputs`` are its `inputs_of`."""
    names, size = inputs.names, sum(inputs.sizes.values())
    rows, tokens = torch.export.Dim("pairs", min=1), torch.export.Dim("tokens", min=2)
    free = {name: {0: rows} if name == SIDE else {0: rows, 1: tokens} for name in names}
    model = scoring_graph(trained.model, size)
    given, outputs = {"batch": _example(names, size)}, [OUTPUT, *([VECTORS] if model.lists is not None else [])]
    with _refusing(model.encoder.model.config.model_type):
        if isinstance(model.encoder, SplitEncoder):
            _write_split(model, trained.featurizer.tokenizer.layout, size, path, outputs)
        else:
            whole = model if model.lists is None else BeforeLists(model)
            _write(whole, path, given, {"batch": free}, names, outputs)
        if model.lists is not None:
            pairs, shapes = _EXAMPLE[0], {"vectors_BF": {0: rows}, "list_B": {0: rows}}
            lists = {"vectors_BF": torch.zeros(pairs, model.lists.query.in_features), "list_B": torch.arange(pairs)}
            _write(OverLists(model), path.parents[1] / LISTS_FILE, lists, shapes, LISTED, [OUTPUT])


def write_sentences(similarity: Similarity, folder: Path) -> None:
    """Export a sentence encoder with its tokenizer, as `Similarity.load` reads it."""
    similarity.save_reader(folder)
    made = copy.deepcopy(similarity.encoder)
    made.encoder.model.set_attn_implementation("eager")
    rows, tokens = torch.export.Dim("texts", min=1), torch.export.Dim("tokens", min=2)
    _write(made, folder / GRAPH, _example(READ, 0), {name: {0: rows, 1: tokens} for name in READ}, READ, ["states"])


def _write_split(model: RelevanceModel, layout: PairLayout, size: int, path: Path, outputs: list[str]) -> None:
    """Write three graphs: of products' and of queries' lower layers, and of what is above."""
    encoder = model.encoder
    assert isinstance(encoder, SplitEncoder)
    rows, tokens, own = (torch.export.Dim(name, min=1) for name in ("pairs", "tokens", "own"))
    tokens_of_side = _example(LOWER, 0)
    for name, segment in ((PRODUCT, layout.second_type), (QUERY, layout.first_type)):
        of_side = dict(zip(("input_ids_BT", "attention_mask_BT"), tokens_of_side.values(), strict=True))
        shapes = {each: {0: rows, 1: tokens} for each in of_side}
        lower = LowerGraph(encoder, segment, product=name == PRODUCT)
        _write(lower, path.with_name(f"{name}.onnx"), of_side, shapes, LOWER, [STATES])
    pairs, longest = _EXAMPLE
    above: dict[str, Tensor] = {
        "own_1MD": torch.randn(1, 5, encoder.hidden),
        "states_BTS": torch.randn(pairs, longest, encoder.state),
        "there_BT": tokens_of_side["attention_mask"],
        "scales_BT": torch.ones(pairs, longest),
    }
    free: dict[str, Any] = {name: {0: rows, 1: tokens} for name in above} | {"own_1MD": {1: own}}
    if size:
        above["side_BF"], free["side_BF"] = torch.zeros(pairs, size), {0: rows}
    _write(UpperGraph(model), path, above, free, UPPER[: len(above)], outputs)


def _write(
    model: nn.Module, path: Path, given: dict[str, Any], free: dict[str, Any], names: Sequence[str], outputs: list[str]
) -> None:
    with quiet("torch.onnx"), torch.inference_mode():
        program = torch.onnx.export(
            model,
            kwargs=given,
            dynamo=True,
            dynamic_shapes=free,
            input_names=list(names),
            output_names=outputs,
            opset_version=OPSET,
            verbose=False,
        )
        assert program is not None
        program.save(path, external_data=sum(weight.nbytes for weight in model.state_dict().values()) > TWO_GIB)
        _strip(path)


def _example(names: tuple[str, ...], size: int) -> dict[str, Tensor]:
    pairs, tokens = _EXAMPLE
    ids_BT = torch.arange(pairs * tokens).reshape(pairs, tokens) % 3 + 2
    mask_BT = torch.ones_like(ids_BT)
    mask_BT[1, tokens // 2 :] = 0
    made = {"input_ids": ids_BT, "attention_mask": mask_BT, "token_type_ids": (ids_BT == 0).long()}
    return {name: torch.zeros(pairs, size) if name == SIDE else made[name] for name in names}


def _strip(path: Path) -> None:
    """Drop what only misleads: shapes that went stale when constants were folded, and source lines of this machine."""
    onnx = required("onnx")
    made = onnx.load(path, load_external_data=False)
    del made.graph.value_info[:]
    for node in made.graph.node:
        del node.metadata_props[:]
    onnx.save(made, path)


def _cause(error: BaseException) -> str:
    """Say in one line what lies at the bottom of an error."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


@contextmanager
def quiet(logger: str) -> Iterator[None]:
    """Hold back a library's warnings, and what it logs below an error."""
    found = logging.getLogger(logger)
    level = found.level
    found.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        found.setLevel(level)

"""The network as an ONNX graph with a free number of pairs and tokens.

Legend: ``B`` pairs, ``T`` tokens, ``C`` outputs, ``S`` size of the side features.
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

from zhichun.core.errors import UserError
from zhichun.core.tasks import Task, gain_vector
from zhichun.model.model_folder import TrainedModel
from zhichun.model.parts import IdEmbeddings, NgramUnit
from zhichun.model.relevance_model import BeforeLists, OverLists, RelevanceModel
from zhichun.score.engines.engine import required
from zhichun.score.export.export_folder import IDS, LISTED, LISTS_FILE, OUTPUT, SIDE, TRIGRAMS, VECTORS, GraphInputs
from zhichun.score.similarity import GRAPH, READ, Similarity

OPSET: Final = 20  # the first with Gelu as one operator, and the last that OpenVINO and onnxruntime know in full
TWO_GIB: Final = 2**31 - 2**24  # an ONNX file holds less; larger weights lie beside it
SCORE: Final = "score"  # the output of a graph for other engines
_EXAMPLE: Final = (3, 7)  # pairs and tokens to trace with; neither 0 nor 1, which would be taken for constants


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
        self.model, self.temperature = model, task.temperature
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
    given, outputs = {"batch": _example(names, size)}, [OUTPUT]
    with _refusing(model.encoder.model.config.model_type):
        if model.lists is None:
            _write(model, path, given, {"batch": free}, names, outputs)
        else:
            _write(BeforeLists(model), path, given, {"batch": free}, names, [*outputs, VECTORS])
            pairs, shapes = _EXAMPLE[0], {"vectors_BF": {0: rows}, "list_B": {0: rows}}
            lists = {"vectors_BF": torch.zeros(pairs, model.lists.query.in_features), "list_B": torch.arange(pairs)}
            _write(OverLists(model), path.parents[1] / LISTS_FILE, lists, shapes, LISTED, outputs)


def write_sentences(similarity: Similarity, folder: Path) -> None:
    """Export a sentence encoder with its tokenizer, as `Similarity.load` reads it."""
    folder.mkdir()
    similarity.reader.tokenizer.save(folder)
    made = copy.deepcopy(similarity.encoder)
    made.encoder.model.set_attn_implementation("eager")
    rows, tokens = torch.export.Dim("texts", min=1), torch.export.Dim("tokens", min=2)
    example = _example(READ, 0)
    _write(made, folder / GRAPH, example, {name: {0: rows, 1: tokens} for name in READ}, READ, ["vectors"])


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
        bytes_ = sum(weight.nbytes for weight in model.state_dict().values())
        program.save(path, external_data=bytes_ > TWO_GIB)
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

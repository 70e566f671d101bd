"""Torch as an engine: the network itself, on a CPU or a GPU.

Legend: ``P`` pairs, ``B`` pairs or texts of a batch, ``C`` outputs, ``T`` tokens, ``D`` size of a vector.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, TypeVar

import torch
from torch import Tensor, nn

from zhichun.core.arrays import Int64
from zhichun.core.errors import UserError, suggest
from zhichun.core.tasks import Floats
from zhichun.model.attention import LONGEST
from zhichun.model.encoder import Encoder
from zhichun.model.layers import has_bf16
from zhichun.model.model_folder import TrainedModel
from zhichun.model.relevance_model import BeforeLists, OverLists, RelevanceModel
from zhichun.score.engine import AUTO, MEASURE, RUN_ENGINES, TOKENS_PER_BATCH, Engine, Progress, in_flight, predict_with
from zhichun.text.pairs import Arrays, Pairs

# On a GPU: enough to keep it busy whatever the model, and what a token takes while a layer is computed, in bytes for
# each number of its vector: a few copies in float32, and the feed-forward part's four times as many numbers twice.
MOST_TOKENS_PER_BATCH: Final = 65_536
_BYTES_PER_NUMBER: Final = 100
_SHARE_OF_MEMORY: Final = 0.25
# Batches that a GPU is given before the logits of the first are waited for.
_IN_FLIGHT: Final = 3
A = TypeVar("A")
R = TypeVar("R")


def to_tensors(arrays: Arrays, device: torch.device) -> dict[str, torch.Tensor]:
    """Move a batch's arrays to a device; what only the host reads stays there."""
    return {name: _moved(torch.from_numpy(array), device, name) for name, array in arrays.items()}


def _moved(tensor: torch.Tensor, device: torch.device, name: str) -> torch.Tensor:
    if device.type != "cuda" or name == LONGEST:
        return tensor if name == LONGEST else tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)  # from pinned memory, nobody waits for the copy


@dataclass(frozen=True, kw_only=True)
class TorchEngine(Engine):
    """Runs the network as it is, on the device where it is.

    Parameters
    ----------
    model
        In evaluation mode.
    """

    model: RelevanceModel

    @classmethod
    def of(cls, model: RelevanceModel, *, in_bf16: bool = False, budget: int | None = None) -> Self:
        """Take a network, with batches for its device.

        Parameters
        ----------
        model
            In evaluation mode.
        in_bf16
            Whether matrices are multiplied in bf16; the head stays in float32, and so do sums over layers and norms
            unless the whole encoder is in bf16.
        budget
            Tokens of a padded batch at most; what suits the device if not given.
        """
        device = device_of(model)
        return cls(
            name=RUN_ENGINES[in_bf16],
            outputs=model.outputs,
            tokens_per_batch=budget or tokens_at_once(device, model.encoder.hidden),
            lookahead=int(device.type == "cuda"),  # while a GPU computes, the CPU is free to read the next texts
            reads_lists=model.lists is not None,
            model=model,
        )

    @property
    def packs(self) -> bool:
        """Whether the network reads packed batches, as it is now."""
        return self.model.encoder.packs

    def run(self, batches: Iterable[Arrays]) -> Iterator[Floats]:
        """Return the logits of each batch, ``[B, C]``, in order; a GPU computes the next one meanwhile."""
        device = device_of(self.model)
        if device.type == "cuda":
            yield from in_flight(batches, _IN_FLIGHT, lambda batch: self._launched(batch, device), _landed)
        else:
            yield from (self._logits(batch, device).numpy() for batch in batches)

    def _launched(self, batch: Arrays, device: torch.device) -> tuple[Tensor, torch.cuda.Event]:
        """Let the GPU compute a batch without waiting; gives where its logits will be, and when."""
        logits_BC = self._logits(batch, device).to("cpu", non_blocking=True)
        there = torch.cuda.Event()  # type: ignore[no-untyped-call]
        there.record(torch.cuda.current_stream(device))
        return logits_BC, there

    @torch.inference_mode()
    def _logits(self, batch: Arrays, device: torch.device) -> Tensor:
        mixed = self.name == RUN_ENGINES[1] and self.model.encoder.table.dtype == torch.float32
        with torch.autocast(device.type, torch.bfloat16) if mixed else nullcontext():
            if self.reads_lists:
                return torch.cat(BeforeLists(self.model)(to_tensors(batch, device)), dim=1)
            logits_BC: Tensor = self.model(to_tensors(batch, device))
        return logits_BC

    @torch.inference_mode()
    def over_lists(self, vectors_BF: Floats, list_B: Int64) -> Floats:
        """Return the logits of whole lists, ``[B, C]``."""
        given = to_tensors({"vectors": vectors_BF, "list": list_B}, device_of(self.model))
        logits_BC: Floats = OverLists(self.model)(given["vectors"], given["list"]).cpu().numpy()
        return logits_BC


def _landed(launched: tuple[Tensor, torch.cuda.Event]) -> Floats:
    logits_BC, there = launched
    there.synchronize()
    landed: Floats = logits_BC.numpy()
    return landed


def predict(
    model: RelevanceModel, pairs: Pairs, rows: Int64, *, budget: int | None = None, progress: Progress | None = None
) -> Floats:
    """Score pairs with a network that is being trained, as after it.

    Parameters
    ----------
    model
        The network; put into evaluation mode and back.
    pairs, rows, progress
        As for `predict_with`.
    budget
        Tokens of a padded batch at most; what suits the device if not given.

    Returns
    -------
    numpy.ndarray
        Logits in float32, ``[P, C]``, in the order of ``rows``.
    """
    was_training = model.training
    model.eval()
    logits_PC = predict_with(TorchEngine.of(model, budget=budget), pairs, rows, progress=progress)
    model.train(was_training)
    return logits_PC


def on_each_core(function: Callable[[A], R], given: Iterable[A]) -> Iterator[R]:
    """Compute one on each core, in order: cores that share each wait for the slowest of them at every step."""
    cores = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield from in_flight(given, cores + 2, lambda each: pool.submit(function, each), Future.result)
    finally:
        torch.set_num_threads(cores)  # which threads that begin later take over


def device_of(model: nn.Module) -> torch.device:
    """Return where a network is."""
    return next(model.parameters()).device


def tokens_at_once(device: torch.device, hidden: int) -> int:
    """Choose how many tokens a batch may hold: few on a CPU, whose caches are small, many on a GPU."""
    if device.type != "cuda":
        return TOKENS_PER_BATCH
    free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    fitting = int(_SHARE_OF_MEMORY * free / (_BYTES_PER_NUMBER * hidden))
    return min(MOST_TOKENS_PER_BATCH, max(TOKENS_PER_BATCH, fitting))


def chosen_by_auto(device: str | None) -> str:
    """Name the engine that `auto` is for a run: fp32 on a CPU, bf16 on a GPU that has it in hardware."""
    place = place_of(device)
    return RUN_ENGINES[place.type == "cuda" and has_bf16(place)]


def place_of(device: str | None) -> torch.device:
    """Take the device that is named; a GPU where there is one, if none is."""
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def load_run(folder: Path, device: str | None, engine: str) -> tuple[TrainedModel, TorchEngine]:
    """Load a model folder of a run; `auto` is `chosen_by_auto`."""
    if engine not in (AUTO, *RUN_ENGINES):
        raise UserError(
            f"a run is not scored by the engine {engine!r}.",
            file=folder,
            remedy=f"Export it first: zhichun export RUN --to {engine.replace('-bf16', '')}"
            if engine != MEASURE
            else f"{suggest(engine, RUN_ENGINES)} An export can be measured: zhichun export RUN --to openvino",
        )
    trained = TrainedModel.load(folder)
    return trained, ready_engine(trained.model, device, chosen_by_auto(device) if engine == AUTO else engine)


def ready_engine(model: RelevanceModel, device: str | None, engine: str) -> TorchEngine:
    """Move a network to where it is to score, in place, and make it ready for one of torch's engines."""
    in_bf16, place = engine == RUN_ENGINES[1], place_of(device)
    if in_bf16:  # a split encoder's states are kept, and stay in float32
        to_bf16(model.encoder, whole=place.type == "cuda" and type(model.encoder) is Encoder)
    model.to(place).encoder.use_attention("auto")
    return TorchEngine.of(model, in_bf16=in_bf16)


def to_bf16(encoder: Encoder, *, whole: bool) -> None:
    """Convert the weights of matrices, which autocast would do for every batch; or all, and so what is between layers.

    A third of a GPU's time goes into sums and norms in float32. Buffers, such as ModernBERT's frequencies, stay exact.
    """
    for module in encoder.modules():
        if whole or isinstance(module, nn.Linear):
            for weight in module.parameters(recurse=False):
                weight.data = weight.data.to(torch.bfloat16)


class Sentences(nn.Module):
    """A sentence encoder as it comes, that reads each text as a first one."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder.eval().requires_grad_(requires_grad=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return a vector of each token, ``[B, T, D]``."""
        hidden_BTD: Tensor = self.encoder(input_ids, attention_mask, None)
        return hidden_BTD

    @torch.inference_mode()
    def of_arrays(self, arrays: Arrays) -> Floats:
        """Compute the vectors of padded texts, ``[B, T, D]``."""
        found: Floats = self(*(torch.from_numpy(array) for array in arrays.values())).numpy()
        return found

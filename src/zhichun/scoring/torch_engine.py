"""Torch as an engine: the network itself, on a processor or a GPU."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from zhichun.errors import UserError, suggest
from zhichun.nn.model_folder import TrainedModel
from zhichun.nn.packing import LONGEST
from zhichun.nn.relevance_model import RelevanceModel
from zhichun.scoring.engine import AUTO, MEASURE, RUN_ENGINES
from zhichun.tasks import Floats
from zhichun.text.pairs import Arrays

TOKENS_PER_BATCH = 4096


def to_tensors(arrays: Arrays, device: torch.device) -> dict[str, torch.Tensor]:
    """Move a batch's arrays to a device; what only the host reads stays there."""
    return {name: _moved(torch.from_numpy(array), device, name) for name, array in arrays.items()}


def _moved(tensor: torch.Tensor, device: torch.device, name: str) -> torch.Tensor:
    if device.type != "cuda" or name == LONGEST:
        return tensor if name == LONGEST else tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)  # from pinned memory, nobody waits for the copy


@dataclass(frozen=True)
class TorchEngine:
    """Runs the network as it is.

    Parameters
    ----------
    model
        In evaluation mode.
    in_bf16
        Whether matrices are multiplied in bf16; sums over layers, norms and the head's output stay in float32.
    tokens_per_batch
        Tokens of a padded batch at most.
    """

    model: RelevanceModel
    in_bf16: bool = False
    tokens_per_batch: int = TOKENS_PER_BATCH
    pairs_per_batch: int | None = None
    streams: int = 1

    @property
    def packs(self) -> bool:
        """Whether the network reads packed batches."""
        return self.model.encoder.packs

    @property
    def name(self) -> str:
        """Its name for users."""
        return RUN_ENGINES[self.in_bf16]

    @property
    def outputs(self) -> int:
        """Outputs of the model."""
        return self.model.outputs

    def run(self, batches: Iterable[Arrays]) -> Iterator[Floats]:
        """Give the logits of each batch."""
        return map(self._logits, batches)

    @torch.inference_mode()
    def _logits(self, batch: Arrays) -> Floats:
        device = next(self.model.parameters()).device
        with self._precision(device):
            logits_BC: Floats = self.model(to_tensors(batch, device)).cpu().numpy()
        return logits_BC

    def _precision(self, device: torch.device) -> AbstractContextManager[object]:
        return torch.autocast(device.type, torch.bfloat16) if self.in_bf16 else nullcontext()


def load_run(folder: Path, device: str | None, engine: str) -> tuple[TrainedModel, TorchEngine]:
    """Load a model folder of a run; `auto` is fp32, in which it was measured.

    Raises
    ------
    UserError
        When the folder is damaged, or the engine is none of torch's.
    """
    if engine not in (AUTO, *RUN_ENGINES):
        raise UserError(
            f"a run is not scored by the engine {engine!r}.",
            file=folder,
            remedy=f"Export it first: zhichun export RUN --to {engine.replace('-bf16', '')}"
            if engine != MEASURE
            else f"{suggest(engine, RUN_ENGINES)} An export can be measured: zhichun export RUN --to openvino",
        )
    trained = TrainedModel.load(folder)
    in_bf16 = engine == "torch-bf16"
    if in_bf16:  # once, or autocast would do it for every batch
        for module in trained.model.encoder.modules():
            if isinstance(module, nn.Linear):
                module.to(torch.bfloat16)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    trained.model.to(place).encoder.use_attention("auto")
    return trained, TorchEngine(trained.model, in_bf16=in_bf16)

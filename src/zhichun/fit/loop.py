"""The training loop, for every objective: batches, one backward, one step; it knows no method by name.

AdamW with a linear warm-up, then a cosine down to zero.

Resuming gives the same weights bit for bit: order, dropout and learning rate are functions of the step, and weights and
the optimiser's moments are in the checkpoint.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from zhichun.core.console import Bar
from zhichun.core.device import ahead
from zhichun.core.errors import UserError
from zhichun.fit.batches import Steps, dropout_seed
from zhichun.fit.run_folder import Progress, RunFolder
from zhichun.fit.train_settings import LoopSettings, PretrainSettings, TrainSettings
from zhichun.model.encoder import Encoder
from zhichun.model.layers import compile_layers, has_bf16, layers_of, recompute_activations
from zhichun.objective.fine_tuning import Objective
from zhichun.score.torch_engine import to_tensors
from zhichun.text.pairs import Arrays

T = TypeVar("T")
LOOKAHEAD = 2


class Waiting:
    """Measures the time spent waiting for the next item of an iterator; the first one is not counted."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began = time.monotonic()

    @property
    def share(self) -> float:
        """Share of the time since the first item that was spent waiting for the others."""
        return self.seconds / max(time.monotonic() - self._began, 1e-9)

    def timed(self, items: Iterable[T]) -> Iterator[T]:
        """Pass items on and count the time until each is there."""
        asked: float | None = None
        for item in items:
            if asked is None:
                self.seconds, self._began = 0.0, time.monotonic()
            else:
                self.seconds += time.monotonic() - asked
            yield item
            asked = time.monotonic()


@dataclass(frozen=True)
class Loop:
    """One training run.

    Parameters
    ----------
    accelerator
        Devices and processes.
    batches
        The data.
    evaluate
        Called with the model on every process; gives the validation figures, ``settings.metric`` among them.
    settings
        How long and how fast.
    run
        Where checkpoints and figures go.
    bar
        Shows progress.
    waiting
        How much of the time is spent waiting for data.
    """

    accelerator: Accelerator
    batches: Steps
    evaluate: Callable[[nn.Module], Mapping[str, float]]
    settings: TrainSettings | PretrainSettings
    run: RunFolder
    bar: Bar
    waiting: Waiting = field(default_factory=Waiting)

    def fit(self, objective: Objective[Any]) -> Progress:
        """Train from the newest checkpoint, or from the start, to the end.

        Returns
        -------
        Progress
            Where the best weights are; they are in the run's checkpoint folder.
        """
        accelerator, settings = self.accelerator, self.settings
        steps = settings.numbers()[0] * self.batches.steps_per_epoch
        for encoder in (part for part in objective.modules() if isinstance(part, Encoder)):
            if settings.activation_checkpointing == "layers":
                recompute_activations(encoder)
            if settings.compile:
                compile_layers(encoder)
        optimizer = make_optimizer(objective, settings)
        progress = self._restore(objective, optimizer)
        wrapped, optimizer = accelerator.prepare(objective, optimizer)
        saved_at = time.monotonic()
        self.bar.start(progress.step, steps)
        for step, micro_batches in self.waiting.timed(self._prefetched(progress.step, steps)):
            if progress.stopped:
                break
            figures = self._step(wrapped, optimizer, step, steps, micro_batches)
            accelerator.unwrap_model(wrapped).after_step()
            progress.step = step + 1
            self._log({"step": progress.step, **figures})
            self.bar.advance(self.batches.size(step), figures["loss"])
            if progress.step in self._evaluated_after(steps):
                self._evaluate(objective, progress)
                self.bar.note(f"waited for data {self.waiting.share:.1%} of the time")
            elif time.monotonic() - saved_at < 60 * settings.checkpoint_minutes:
                continue
            self._save(objective, optimizer, progress)
            saved_at = time.monotonic()
        self.bar.stop()
        accelerator.wait_for_everyone()  # the best weights are whole when the first process comes here
        return progress

    def _step(
        self, wrapped: nn.Module, optimizer: Any, step: int, steps: int, micro_batches: list[Arrays]
    ) -> dict[str, Any]:
        """Do one step; returns the loss over all processes, the gradient norm, and the parts of the loss."""
        accelerator, settings = self.accelerator, self.settings
        for group in optimizer.param_groups:
            group["lr"] = group["scale"] * learning_rate(step, steps, settings)
        wrapped.train()
        sums: dict[str, Tensor] = {}
        for index, arrays in enumerate(micro_batches):
            batch = to_tensors(arrays, accelerator.device)
            torch.manual_seed(dropout_seed(settings.seed, step, index, accelerator.process_index))
            last = index == len(micro_batches) - 1
            with nullcontext() if last else accelerator.no_sync(wrapped):
                with self.autocast():
                    result = wrapped(batch)
                accelerator.backward(result.total)
            for name, part in (("total", result.total.detach()), *result.parts.items()):
                sums[name] = sums[name] + part if name in sums else part
        norm: Tensor | None = None
        if settings.clip is not None:
            norm = accelerator.clip_grad_norm_(wrapped.parameters(), settings.clip)
        optimizer.step()
        optimizer.zero_grad()
        values = accelerator.reduce(torch.stack(list(sums.values())), "mean").tolist()
        loss, *parts = values
        if loss != loss:
            remedy = "Lower train.learning_rate, or use --set train.precision=fp32."
            raise UserError(f"the loss is not a number at step {step + 1}.", remedy=remedy)
        figures = {"loss": loss, "gradient_norm": None if norm is None else float(norm)}
        names = list(sums)[1:]
        # What has no figure in this step is NaN, which JSON does not know.
        logged = {name: part if part == part else None for name, part in zip(names, parts, strict=True)}
        return figures if names in ([], ["loss"]) else {**figures, "parts": logged}

    def autocast(self) -> torch.autocast:
        """Compute in bf16 where the settings and the device allow; the head and the losses are float32 all the same."""
        device, precision = self.accelerator.device, self.settings.precision
        wanted = precision == "bf16" or (precision == "auto" and has_bf16(device))
        return torch.autocast(device.type, torch.bfloat16, enabled=wanted)

    def _prefetched(self, start: int, steps: int) -> Iterator[tuple[int, list[Arrays]]]:
        """Make the batches of the next steps in the background."""
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        yield from ahead(
            ((step, list(self.batches.micro_batches(step, rank, processes))) for step in range(start, steps)), LOOKAHEAD
        )

    def _evaluated_after(self, steps: int) -> set[int]:
        count = self.settings.numbers()[0] * self.settings.evaluations
        return {max(1, round(steps * (k + 1) / count)) for k in range(count)}

    def _evaluate(self, objective: Objective[Any], progress: Progress) -> None:
        with self.autocast():
            figures = dict(self.evaluate(objective.shipped))
        value = figures[self.settings.metric] * (-1 if self.settings.metric.endswith("loss") else 1)
        loss = figures.get("loss", float("inf"))
        if self.settings.keep == "last" or (value, -loss) > (progress.best_value, -progress.best_loss):
            progress.best_step, progress.best_value, progress.best_loss = progress.step, value, loss
            progress.stale = 0
            if self.accelerator.is_main_process:
                weights = objective.shipped.state_dict()
                self.run.checkpoints.save_best(weights, progress.step)
        else:
            progress.stale += 1
            progress.stopped = self.settings.patience is not None and progress.stale >= self.settings.patience
        self._log({"step": progress.step, "validation": figures})
        self.bar.note(" ".join(f"{name} {figure:.4f}" for name, figure in figures.items()))

    def _log(self, record: dict[str, Any]) -> None:
        if self.accelerator.is_main_process:
            self.run.log(record)
            flat = {name: value for name, value in record.items() if isinstance(value, float)}
            for group, values in record.items():
                if isinstance(values, dict):
                    flat |= {f"{group}/{name}": value for name, value in values.items() if value is not None}
            self.accelerator.log(flat, step=record["step"])

    def _save(self, objective: Objective[Any], optimizer: Any, progress: Progress) -> None:
        # Nothing here may wait for the other processes: each asks its own clock whether to come.
        if self.accelerator.is_main_process:
            self.run.checkpoints.save(objective.state_dict(), optimizer.state_dict(), progress)

    def _restore(self, objective: Objective[Any], optimizer: Any) -> Progress:
        found = self.run.checkpoints.latest()
        if found is None:
            progress = Progress()
        else:
            weights, moments, progress = found
            objective.load_state_dict(weights)
            optimizer.load_state_dict(moments)
        if self.accelerator.is_main_process:
            self.run.forget_after(progress.step)
        self.accelerator.wait_for_everyone()
        return progress


def make_optimizer(module: nn.Module, settings: LoopSettings) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter, 2019) without weight decay on biases and norms, which have one dimension.

    Each group's ``scale`` is what its learning rate is multiplied with. The groups and the weights in them are in the
    same order for the same module and settings, as a resume needs it.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    below = {} if settings.layer_decay is None else layers_above(module)
    groups = []
    for depth in sorted({below.get(parameter, 0) for parameter in trained}):
        level = [parameter for parameter in trained if below.get(parameter, 0) == depth]
        scale = 1.0 if settings.layer_decay is None else settings.layer_decay**depth
        groups += [
            {"params": [p for p in level if p.ndim > 1], "weight_decay": settings.weight_decay, "scale": scale},
            {"params": [p for p in level if p.ndim <= 1], "weight_decay": 0.0, "scale": scale},
        ]
    return torch.optim.AdamW(groups, lr=settings.numbers()[1], fused=True)  # one pass over the weights, not ten


def learning_rate(step: int, steps: int, settings: LoopSettings) -> float:
    """Learning rate of a step, counted from 0 of ``steps``: a function of the step alone, so that nothing is saved."""
    warmup, (_, highest) = math.ceil(settings.warmup * steps), settings.numbers()
    if step < warmup:
        return highest * (step + 1) / warmup
    return highest * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def layers_above(module: nn.Module) -> dict[nn.Parameter, int]:
    """Count how deep each weight of the encoders in a module lies (as in ELECTRA's fine-tuning, Clark et al., 2020)."""
    found: dict[nn.Parameter, int] = {}
    for encoder in (part for part in module.modules() if isinstance(part, Encoder)):
        layers = layers_of(encoder)
        found |= dict.fromkeys(encoder.parameters(), len(layers) + 1)
        last = getattr(encoder.model, "final_norm", None)
        found |= dict.fromkeys([] if last is None else last.parameters(), 1)
        for place, layer in enumerate(layers):
            found |= dict.fromkeys(layer.parameters(), len(layers) - place)
    return found

"""The training loop, for every objective: batches, one backward, one step; it knows no method by name.

AdamW with a linear warm-up, then a cosine down to zero.

Resuming gives the same weights bit for bit: order, dropout and learning rate are functions of the step, and weights and
the optimiser's moments are in the checkpoint.

`run_training` is shared by training and pre-training: the run folder, the loop, and the best weights.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from accelerate import Accelerator
from accelerate.tracking import MLflowTracker, TensorBoardTracker, WandBTracker, get_available_trackers
from torch import Tensor, nn
from torch.distributed import DistError

from zhichun.core.console import Bar, Stages
from zhichun.core.device import ahead
from zhichun.core.errors import UserError
from zhichun.data.dataset import Dataset
from zhichun.fit.batches import Steps, dropout_seed
from zhichun.fit.recipe import PretrainingRecipe, Recipe, describe
from zhichun.fit.run_folder import Progress, RunFolder, one_run
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
        epochs, _ = settings.numbers()
        steps, evaluations = epochs * self.batches.steps_per_epoch, epochs * settings.evaluations
        evaluated_after = {max(1, round(steps * (k + 1) / evaluations)) for k in range(evaluations)}
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
            if progress.step in evaluated_after:
                self._evaluate(objective, progress)
                self.bar.note(f"waited for data {self.waiting.share:.1%} of the time")
            elif time.monotonic() - saved_at < 60 * settings.checkpoint_minutes:
                continue
            # Nothing here may wait for the other processes: each asks its own clock whether to come.
            if accelerator.is_main_process:
                self.run.checkpoints.save(objective.state_dict(), optimizer.state_dict(), progress)
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
        loss, *parts = accelerator.reduce(torch.stack(list(sums.values())), "mean").tolist()
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

    def _evaluate(self, objective: Objective[Any], progress: Progress) -> None:
        with self.autocast():
            figures = dict(self.evaluate(objective.shipped))
        value = figures.get(self.settings.metric, 0.0) * (-1 if self.settings.metric.endswith("loss") else 1)
        loss = figures.get("loss", float("inf"))
        if self.settings.keep == "last" or (value, -loss) > (progress.best_value, -progress.best_loss):
            progress.best_step, progress.best_value, progress.best_loss = progress.step, value, loss
            progress.stale = 0
            if self.accelerator.is_main_process:
                self.run.checkpoints.save_best(objective.shipped.state_dict(), progress.step)
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


R = TypeVar("R", Recipe, PretrainingRecipe)


class Training(Protocol):
    """One kind of training, with its dataset open."""

    unit: str
    """What the loop counts."""
    result: str
    """The folder in the run folder that is there when the run is done."""

    def start(self) -> tuple[Objective[Any], Steps]:
        """Make the objective with its starting weights, and the batches; torch is seeded."""

    def figures(self, model: nn.Module) -> Mapping[str, float]:
        """Measure a model on what is held out; every process calls it."""

    def finish(self, run: RunFolder, objective: Objective[Any]) -> None:
        """Write what the run gives, with the best weights in ``objective.shipped``; every process calls it."""


def run_training(
    make: Callable[[R, Dataset, Accelerator, Stages], Training],
    recipe: R,
    data: Path,
    out: Path,
    *,
    resume: bool,
    title: str,
    inputs: Callable[[R, Dataset], Sequence[Path]] = lambda recipe, dataset: (),
) -> RunFolder:
    """Train from the newest checkpoint, or from the start, to the end; every process calls it.

    Parameters
    ----------
    make
        Opens what is trained on; the first process comes first, and computes what the others read.
    recipe, data, out, resume, title
        As for `zhichun.fit.train.train`.
    inputs
        Finds the files beside the dataset that decide the training.
    """
    # Without cpu=True, processes that a launcher started on a machine without GPU would not know of each other.
    accelerator = Accelerator(cpu=not torch.accelerator.is_available(), log_with=_trackers(recipe, out) or None)
    is_first = accelerator.is_main_process
    with one_run(out, writes=is_first), _naming_lost_processes(accelerator):
        dataset, run = Dataset.open(data), RunFolder(out)
        with accelerator.main_process_first():
            if is_first:
                also, defaults = inputs(recipe, dataset), type(recipe)().to_json()
                run = RunFolder.create(out, recipe.to_json(), data, resume=resume, inputs=also, defaults=defaults)
            with Stages(shown=is_first) as stages:
                training = make(recipe, dataset, accelerator, stages)
        if (run.path / training.result).is_dir():
            run.drop_checkpoints()  # a kill may have come between the result and this
            return run
        torch.manual_seed(recipe.train.seed)
        objective, batches = training.start()
        smallest, processes = batches.smallest_step, accelerator.num_processes
        if smallest < processes:
            problem = f"a step of {smallest} {training.unit} is too small for {processes} processes."
            raise UserError(problem, remedy="Raise train.batch_size, or start fewer processes.")
        shown = Bar(title, training.unit, shown=is_first)
        with shown as bar, _tracked(accelerator, recipe, run):
            progress = Loop(accelerator, batches, training.figures, recipe.train, run, bar).fit(objective)
        objective.shipped.load_state_dict(run.checkpoints.best(progress.best_step))
        training.finish(run, objective)
        accelerator.wait_for_everyone()
        return run


def _trackers(recipe: R, out: Path) -> list[Any]:
    """Make the trackers that are asked for; nothing of theirs is imported before they start.

    Raises
    ------
    UserError
        For one that is not installed, which accelerate would leave out in silence.
    """
    made: dict[str, Callable[[], Any]] = {
        "tensorboard": lambda: TensorBoardTracker("tensorboard", out),
        "wandb": lambda: WandBTracker("zhichun", name=out.name),
        "mlflow": lambda: MLflowTracker("zhichun", run_name=out.name),
    }
    wanted = dict.fromkeys(recipe.train.trackers or ())
    for name in wanted:
        if name not in map(str, get_available_trackers()):
            remedy = f"Install it with: pip install {name}\nOr leave it out: --set train.trackers=null"
            raise UserError(f"train.trackers has {name}, which is not installed.", remedy=remedy)
    return [made[name]() for name in wanted]


@contextmanager
def _tracked(accelerator: Accelerator, recipe: R, run: RunFolder) -> Iterator[None]:
    """Start the trackers of the first process with the recipe's settings, and end them however training ends."""
    for tracker in accelerator.log_with:
        if isinstance(tracker, TensorBoardTracker):  # of the steps that a resume does again it shows the new ones
            tracker.init_kwargs["purge_step"] = run.checkpoints.step + 1
    if accelerator.is_main_process and accelerator.log_with:
        accelerator.init_trackers("zhichun", {name: value for name, value, _ in describe(recipe)})
    try:
        yield
    finally:
        for tracker in accelerator.trackers:
            tracker.finish()


@contextmanager
def _naming_lost_processes(accelerator: Accelerator) -> Iterator[None]:
    """Say in one line that another process has ended: what waits for it fails in ways that nobody can read."""
    try:
        yield
    except RuntimeError as error:
        of_backend = isinstance(error, DistError) or any(name in str(error).lower() for name in ("gloo", "nccl"))
        if accelerator.num_processes == 1 or not of_backend:
            raise
        remedy = "Its own message, if it had time for one, says why. Start all of them again with --resume."
        raise UserError(f"another of the {accelerator.num_processes} processes has ended.", remedy=remedy) from error

"""Shared by training and pre-training: the run folder, the loop, and the best weights."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from accelerate import Accelerator
from accelerate.tracking import MLflowTracker, TensorBoardTracker, WandBTracker, get_available_trackers
from torch import nn
from torch.distributed import DistError

from zhichun.core.console import Bar, Stages
from zhichun.core.errors import UserError
from zhichun.data.dataset import Dataset
from zhichun.fit.batches import Steps
from zhichun.fit.loop import Loop
from zhichun.fit.recipe import PretrainingRecipe, Recipe, describe
from zhichun.fit.run_folder import RunFolder, one_run
from zhichun.objective.fine_tuning import Objective

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
    with one_run(out, writes=is_first):
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
        with shown as bar, _naming_lost_processes(accelerator), _tracked(accelerator, recipe, run):
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

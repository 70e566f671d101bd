"""A recipe: everything that determines a training run, as one frozen value that round-trips through JSON.

A recipe is made by a Python function, `zhichun.fit.recipes.tiny.tiny`, or `my_file.py:function`, written as YAML, or
read back from the `recipe.json` of a run.
"""

import importlib
import inspect
import json
import re
import runpy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Self, TypeVar, get_type_hints, overload

import yaml

from zhichun.core import settings as codec
from zhichun.core.errors import UserError, readable, suggest
from zhichun.core.files import read_json
from zhichun.core.tasks import TASKS
from zhichun.fit.train_settings import PretrainSettings, TrainSettings
from zhichun.model.encoder_settings import EncoderSettings
from zhichun.model.relevance_model import ModelSettings
from zhichun.objective import FineTuningSettings, PretrainingSettings

R = TypeVar("R", bound="AnyRecipe")
FORMAT = 1
PACKAGED = ("zhichun", "tiny", "kdd2022", "distil")


class AnyRecipe:
    """What recipes of every kind can do; all of them are frozen dataclasses."""

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as JSON values."""
        return {"format": FORMAT, **codec.encode(self)}

    @classmethod
    def from_json(cls, value: dict[str, Any], source: str = "") -> Self:
        """Read a recipe from JSON values.

        Raises
        ------
        UserError
            For another format, an unknown setting or a wrong value.
        """
        if value.get("format") != FORMAT:
            raise UserError(f"is of recipe format {value.get('format')}; this version reads {FORMAT}.", file=source)
        try:
            return codec.decode(cls, {name: item for name, item in value.items() if name != "format"})
        except UserError as error:
            raise UserError(error.problem, remedy=error.remedy, file=source or None) from error

    def with_settings(self, assignments: Sequence[str]) -> Self:
        """Apply ``--set KEY=VALUE`` in order.

        Parameters
        ----------
        assignments
            Such as ``train.learning_rate=2e-5``, ``model.brand=null``, ``model.fields=["title","brand"]``; the value is
            JSON where it can be, and text otherwise.

        Raises
        ------
        UserError
            For a misspelt key (answered with the nearest right one), or a value of the wrong type.
        """
        return codec.decode(type(self), codec.assigned(self, assignments))


@dataclass(frozen=True, kw_only=True)
class Recipe(AnyRecipe):
    """Everything that determines fine-tuning except the data.

    Parameters
    ----------
    task
        `esci`: four classes; `substitute`: substitute or not; `gain`: regression of the gain.
    model
        What the model consists of.
    objective
        What is minimised.
    train
        How long, how fast and on what.
    """

    task: Literal["esci", "substitute", "gain"] = "esci"
    model: ModelSettings = field(default_factory=ModelSettings)
    objective: FineTuningSettings = field(default_factory=FineTuningSettings)
    train: TrainSettings = field(default_factory=TrainSettings)

    def __post_init__(self) -> None:
        regressor = self.objective.loss.regresses
        if regressor != (self.task == "gain"):
            right = "SquaredError" if self.task == "gain" else "CrossEntropy"
            problem = f"the task {self.task!r} cannot be trained with the loss {type(self.objective.loss).__name__}."
            raise UserError(problem, remedy=f"Use --set objective.loss={right}.")
        weights = getattr(self.objective.loss, "class_weights", None)
        if weights is not None and len(weights) != TASKS[self.task].outputs:
            classes = ", ".join(TASKS[self.task].classes)
            remedy = f"Give one for each class of the task {self.task!r}: {classes}."
            raise UserError(f"objective.loss.class_weights={list(weights)} are {len(weights)} weights.", remedy=remedy)
        if self.task == "gain" and self.train.soft_labels is not None and self.train.soft_labels.temperature != 1:
            problem = "train.soft_labels.temperature has no effect on the task 'gain', which has no probabilities."
            raise UserError(problem, remedy="Leave it at 1.")
        for name, over_lists in (("objective.ranking", self.objective.ranking), ("model.lists", self.model.lists)):
            if over_lists is not None and self.train.lists is None:
                remedy = "Use --set train.lists=Lists."
                raise UserError(f"{name}={type(over_lists).__name__} needs steps of whole lists.", remedy=remedy)
        ranking = self.objective.ranking
        if ranking is not None and ranking.gains != "esci" and self.task != "esci":
            why = "targets are gains of esci already" if regressor else "two classes have the gains 0 and 1"
            problem = f"objective.ranking.gains={ranking.gains!r} has no effect on the task {self.task!r}, whose {why}."
            raise UserError(problem, remedy="Use --set objective.ranking.gains=esci.")
        view = self.objective.second_view
        if view is not None and view.moves_weights and self.train.activation_checkpointing is not None:
            problem = f"{type(view).__name__} moves weights, which train.activation_checkpointing would not move again."
            remedy = "Use --set train.activation_checkpointing=null, or --set objective.second_view=FGM."
            raise UserError(problem, remedy=remedy)
        metrics = {"esci": ("micro_f1", "macro_f1", "ndcg"), "substitute": ("micro_f1", "macro_f1"), "gain": ("ndcg",)}
        if self.train.metric not in (*metrics[self.task], "loss"):
            remedy = f"Use --set train.metric={metrics[self.task][0]}, or train.metric=loss."
            raise UserError(f"the task {self.task!r} has no {self.train.metric}.", remedy=remedy)


@dataclass(frozen=True, kw_only=True)
class PretrainingRecipe(AnyRecipe):
    """Everything that determines pre-training except the data.

    Parameters
    ----------
    model
        The encoder and its input.
    objective
        Which pretext tasks are learnt.
    train
        How long, how fast and on what.
    """

    model: EncoderSettings = field(default_factory=EncoderSettings)
    objective: PretrainingSettings = field(default_factory=PretrainingSettings)
    train: PretrainSettings = field(default_factory=PretrainSettings)

    def __post_init__(self) -> None:
        task, _, figure = self.train.metric.rpartition(".")
        if task and getattr(self.objective, task) is None:
            raise UserError(f"objective.{task}=null leaves no {task}.{figure}.", remedy="Use --set train.metric=loss.")
        if self.objective.pair_mlm is None and self.train.validation_fold is not None:
            problem = f"train.validation_fold={self.train.validation_fold} has no effect: no task reads queries."
            remedy = "Use --set train.validation_fold=null, or --set objective.pair_mlm=PairMLM."
            raise UserError(problem, remedy=remedy)


COMMANDS: dict[type[AnyRecipe], str] = {Recipe: "train", PretrainingRecipe: "pretrain"}


@overload
def load_recipe(name: str) -> Recipe: ...


@overload
def load_recipe(name: str, kind: type[R]) -> R: ...


def load_recipe(name: str, kind: type[AnyRecipe] = Recipe) -> AnyRecipe:
    """Find a recipe by name.

    Parameters
    ----------
    name
        ``tiny``, ``kdd2022:task2``, ``zhichun:fast:pretrain``, ``my_file.py:function``, or the path of a
        ``recipe.json`` or of a ``.yaml`` file.
    kind
        Which kind is wanted: `Recipe`, `PretrainingRecipe`, or `AnyRecipe`, which is both.

    Raises
    ------
    UserError
        When there is none of that name, or it is of the other kind.
    """
    read = {".json": _recorded, ".yaml": _written, ".yml": _written}.get(Path(name).suffix.lower())
    found = _made(name) if read is None else read(Path(name))
    if not isinstance(found, kind):
        right = COMMANDS[type(found)]
        remedy = f"Name another, or use it with: zhichun {right} {name}"
        raise UserError(f"{name} is a recipe for `zhichun {right}`.", remedy=remedy)
    return found


def _recorded(path: Path) -> AnyRecipe:
    value = read_json(path, dict, "Name the recipe.json of a run, or a recipe by its name.")
    kind = PretrainingRecipe if value.get("kind") == PretrainingRecipe.__name__ else Recipe
    return kind.from_json(value, str(path))


class _Loader(yaml.SafeLoader):
    """YAML in which 2e-5 is a number, as in YAML 1.2, and no key is there twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse the second of two equal keys, which PyYAML would take in silence."""
        seen: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value!r} is there twice", problem_mark=key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), [*"-+0123456789"]
)


def _written(path: Path) -> AnyRecipe:
    """Read a recipe in YAML: the settings in which it differs from the recipe under ``base``."""
    try:
        with readable(path, "It is YAML of settings, such as `train: {epochs: 3}`.", yaml.YAMLError, RecursionError):
            value = yaml.load(path.read_text("utf-8"), _Loader) or {}
            if not isinstance(value, dict):
                raise yaml.YAMLError("no settings")
            base = value.pop("base", None)
            file = path.parent / str(base).partition(":")[0]  # may be named as seen from this one
            name = path.parent / str(base) if file.suffix and file.is_file() else base
            start = Recipe() if base is None else load_recipe(str(name), AnyRecipe)
            return start.with_settings([*_assignments(value)])
    except UserError as error:
        raise error if error.file else UserError(error.problem, remedy=error.remedy, file=path) from error


def _assignments(value: Mapping[Any, Any], prefix: str = "") -> Iterator[str]:
    """Write nested settings as `--set` takes them; one that names its kind is set as a whole."""
    for name, item in value.items():
        if isinstance(item, dict) and "kind" not in item:
            yield from _assignments(item, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}={json.dumps(item, default=str)}"


def _made(name: str) -> AnyRecipe:
    """Call the function that a name stands for: ``tiny``, ``kdd2022:task2`` or ``my_file.py:function``."""
    place, _, function = name.partition(":")
    if place.endswith(".py"):
        module = _module_of_file(Path(place))
    elif place in PACKAGED:
        module = importlib.import_module(f"zhichun.fit.recipes.{place}")
    else:
        own = "my_file.py:function, or RUN/recipe.json"
        raise UserError(f"there is no recipe {place!r}.", remedy=f"{suggest(place, PACKAGED)} Or name a file: {own}.")
    made, function = functions_of(module), function.replace(":", "_") or Path(place).stem
    if function not in made:
        raise UserError(f"{place} has no recipe {function!r}.", remedy=suggest(function, made))
    return made[function]()


def functions_of(module: ModuleType) -> dict[str, Callable[[], AnyRecipe]]:
    """List the functions of a module that are annotated to return a recipe, by name."""
    wanted = {kind if written else kind.__name__ for kind in COMMANDS for written in (True, False)}
    return {
        name: function
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if not name.startswith("_") and inspect.signature(function).return_annotation in wanted
    }


def describe(settings: Any, prefix: str = "") -> list[tuple[str, str, str]]:
    """List every setting with its value and what its docstring says of it."""
    rows = []
    hints = get_type_hints(type(settings))
    words: dict[str, str] = {}
    for base in reversed(type(settings).__mro__):  # what is said of a class holds for those that derive from it
        words |= codec.parameter_docs(base.__doc__ or "")
    for item in fields(settings):
        name, value = f"{prefix}{item.name}", getattr(settings, item.name)
        said = words.get(item.name) or _described(hints[item.name])
        if not is_dataclass(value):
            rows.append((name, json.dumps(value), said))
            continue
        if not is_dataclass(hints[item.name]) or not fields(value):  # one of several kinds, which is a setting itself
            rows.append((name, type(value).__name__, said))
        rows += describe(value, f"{name}.")
    return rows


def _described(hint: Any) -> str:
    """Read what the docstrings of the kinds that a field may hold say of themselves."""
    return " ".join((kind.__doc__ or "").partition("\n")[0] for kind in codec.kinds_of(hint).values())


def _module_of_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UserError("there is no such file.", file=path, remedy="Name a Python file with a function of recipes.")
    module = ModuleType(path.stem)
    vars(module).update(runpy.run_path(str(path)))
    return module

"""A recipe: everything that decides a training run, as one frozen value that goes through JSON unchanged.

A recipe is made by a Python function, `zhichun.recipes.tiny.tiny`, or `my_file.py:function`, or read back from the
`recipe.json` of a run.
"""

import importlib
import importlib.util
import inspect
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from zhichun import codec
from zhichun.errors import UserError, suggest
from zhichun.losses import SquaredError
from zhichun.nn.relevance_model import ModelSettings
from zhichun.objectives import FineTuningSettings
from zhichun.train.settings import TrainSettings

FORMAT = 1
PACKAGED = ("tiny", "kdd2022")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides a training run but the data.

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
        regressor = isinstance(self.objective.loss, SquaredError)
        if regressor != (self.task == "gain"):
            right = "SquaredError" if self.task == "gain" else "CrossEntropy"
            raise UserError(
                f"the task {self.task!r} cannot be trained with the loss {type(self.objective.loss).__name__}.",
                remedy=f"Use --set objective.loss={right}.",
            )
        metrics = {"esci": ("micro_f1", "macro_f1", "ndcg"), "substitute": ("micro_f1", "macro_f1"), "gain": ("ndcg",)}
        if self.train.metric not in (*metrics[self.task], "loss"):
            raise UserError(
                f"the task {self.task!r} has no {self.train.metric}.",
                remedy=f"Use --set train.metric={metrics[self.task][0]}, or train.metric=loss.",
            )

    def to_json(self) -> dict[str, Any]:
        """Give the recipe as JSON values."""
        return {"format": FORMAT, **codec.encode(self)}

    @classmethod
    def from_json(cls, value: dict[str, Any], source: str = "") -> "Recipe":
        """Read a recipe from JSON values.

        Raises
        ------
        UserError
            For another format, an unknown setting or a wrong value.
        """
        found = value.get("format") if isinstance(value, dict) else None
        if found != FORMAT:
            raise UserError(f"is of recipe format {found}; this version reads {FORMAT}.", file=source)
        return codec.decode(cls, {name: item for name, item in value.items() if name != "format"})

    def with_settings(self, assignments: Sequence[str]) -> "Recipe":
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
        value = codec.encode(self)
        for assignment in assignments:
            key, equals, text = assignment.partition("=")
            if not equals:
                raise UserError(f"--set {assignment!r} has no value.", remedy="Write --set KEY=VALUE.")
            _assign(value, key.strip(), _parse(text))
        return codec.decode(Recipe, value)


def load_recipe(name: str) -> Recipe:
    """Find a recipe by name.

    Parameters
    ----------
    name
        ``tiny``, ``kdd2022:task2``, ``my_file.py:function``, or the path of a ``recipe.json``.

    Raises
    ------
    UserError
        When there is none of that name.
    """
    if name.endswith(".json"):
        path = Path(name)
        try:
            return Recipe.from_json(json.loads(path.read_text("utf-8")), name)
        except (OSError, ValueError) as error:
            raise UserError(f"cannot be read as a recipe ({error}).", file=path) from error
    place, _, function = name.partition(":")
    module = _module_of_file(Path(place)) if place.endswith(".py") else _packaged(place)
    made = recipes_of(module)
    function = function or Path(place).stem
    if function not in made:
        raise UserError(f"{place} has no recipe {function!r}.", remedy=suggest(function, made))
    return made[function]()


def recipes_of(module: ModuleType) -> dict[str, Any]:
    """List the functions of a module that return a recipe, by name."""
    return {
        name: function
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if not name.startswith("_") and inspect.signature(function).return_annotation in (Recipe, "Recipe")
    }


def describe(settings: Any, prefix: str = "") -> list[tuple[str, str, str]]:
    """List every setting with its value and what its docstring says of it."""
    rows = []
    words = _parameter_docs(type(settings))
    for item in fields(settings):
        value = getattr(settings, item.name)
        if is_dataclass(value) and fields(value):
            rows += describe(value, f"{prefix}{item.name}.")
        else:
            shown = type(value).__name__ if is_dataclass(value) else json.dumps(value)
            rows.append((f"{prefix}{item.name}", shown, words.get(item.name, "")))
    return rows


def _parameter_docs(cls: type) -> dict[str, str]:
    lines = inspect.cleandoc(cls.__doc__ or "").partition("----------\n")[2].splitlines()
    found: dict[str, str] = {}
    name = ""
    for line in lines:
        if line and not line.startswith(" "):
            name = line.strip()
        elif line:
            found[name] = f"{found.get(name, '')} {line.strip()}".strip()
    return found


def _assign(value: dict[str, Any], key: str, item: Any) -> None:
    *outer, last = key.split(".")
    for place, name in enumerate(outer):
        _require(value, name, outer[:place])
        value = value[name]
    if not isinstance(value, dict):
        raise UserError(f"{'.'.join(outer)} is {value!r} and has no setting {last!r}.", remedy="Set it as a whole.")
    _require(value, last, outer)
    value[last] = item


def _require(value: Any, name: str, outer: list[str]) -> None:
    """Refuse a name that these settings do not have, with the whole key of the nearest that they have."""
    if not isinstance(value, dict) or name not in value:
        known = [".".join([*outer, known]) for known in value if known != "kind"] if isinstance(value, dict) else []
        key = ".".join([*outer, name])
        raise UserError(f"there is no setting {key!r}.", remedy=suggest(key, known))


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _packaged(name: str) -> ModuleType:
    if name not in PACKAGED:
        remedy = f"{suggest(name, PACKAGED)} Or name a file: my_file.py:function, or RUN/recipe.json."
        raise UserError(f"there is no recipe {name!r}.", remedy=remedy)
    return importlib.import_module(f"zhichun.recipes.{name}")


def _module_of_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UserError("there is no such file.", file=path, remedy="Name a Python file with a function of recipes.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

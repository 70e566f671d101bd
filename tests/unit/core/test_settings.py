"""Settings to JSON and back, whatever frozen dataclasses they are made of."""

import dataclasses
import importlib
import inspect
import json
import math
import pkgutil
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

import zhichun
from zhichun.core import settings as codec
from zhichun.core.errors import UserError
from zhichun.data.prepare.judges import SettleJudges
from zhichun.data.prepare.making import Translation
from zhichun.fit.train_settings import SoftLabels
from zhichun.judgements.chat import Answer
from zhichun.judgements.judge import JudgingJob
from zhichun.metrics.metric import Metric
from zhichun.model.relevance_model import VocabularySizes
from zhichun.score.engine import Engine
from zhichun.score.export.export_folder import ExportConfig
from zhichun.serve.app import ServeSettings


@dataclass(frozen=True, kw_only=True)
class Circle:
    radius: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Square:
    side: float = 1.0
    tilted: bool = False


@dataclass(frozen=True, kw_only=True)
class Drawing:
    shape: Circle | Square = field(default_factory=Circle)
    frame: Square | None = None
    color: Literal["red", "green"] = "red"
    sizes: tuple[int, ...] = ()
    copies: int | None = 1
    title: int | str = ""


DRAWING = Drawing(shape=Square(side=2.0, tilted=True), frame=Square(), sizes=(3, 4), copies=None, title="one")


def test_settings_go_through_json_unchanged():
    assert codec.decode(Drawing, json.loads(json.dumps(codec.encode(DRAWING)))) == DRAWING


def test_every_dataclass_names_its_kind():
    encoded = codec.encode(DRAWING)
    assert encoded["kind"] == "Drawing"
    assert encoded["shape"] == {"kind": "Square", "side": 2.0, "tilted": True}
    assert encoded["sizes"] == [3, 4]


def test_what_is_left_out_has_its_default_and_a_bare_name_is_a_kind_with_its_own():
    assert codec.decode(Drawing, {}) == Drawing()
    assert codec.decode(Drawing, {"shape": "Square"}).shape == Square()
    assert codec.decode(Drawing, {"frame": {"side": 3.0}}).frame == Square(side=3.0)  # where only one is possible


def test_a_whole_number_serves_where_a_float_is_asked_for():
    radius = codec.decode(Drawing, {"shape": {"kind": "Circle", "radius": 2}}).shape.radius
    assert (radius, type(radius)) == (2.0, float)


def test_a_union_of_plain_types_takes_each():
    assert codec.decode(Drawing, {"title": 7}).title == 7
    assert codec.decode(Drawing, {"title": "7"}).title == "7"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"shape": "Sqare"}, "shape has no kind 'Sqare'.\nDid you mean 'Square'?"),
        ({"shape": {"radius": 2.0}}, "shape has no kind ''.\nPossible: Circle, Square."),
        ({"shape": {"kind": []}}, "shape has no kind [].\nPossible: Circle, Square."),
        ({"shape": None}, "shape=None should name one of ['Circle', 'Square']"),
        ({"shape": {"kind": "Circle", "raduis": 2.0}}, "no setting 'shape.raduis'.\nDid you mean 'shape.radius'?"),
        ({"shape": {"kind": "Circle", "radius": True}}, "shape.radius=True is not of type float"),
        ({"shape": {"kind": "Circle", "radius": "2"}}, "shape.radius='2' is not of type float"),
        ({"frame": "Circle"}, "frame has no kind 'Circle'.\nPossible: Square."),
        ({"color": "gren"}, "color='gren' is unknown.\nDid you mean 'green'?"),
        ({"sizes": 3}, "sizes=3 is not a list"),
        ({"sizes": [3, "four"]}, "sizes='four' is not of type int"),
        ({"copies": "two"}, "copies='two' is not of type int"),
        ({"title": 1.5}, "title=1.5 is not of type"),
        ({"kind": "Painting"}, "has no kind 'Painting'"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(value, message):
    with pytest.raises(UserError) as error:
        codec.decode(Drawing, value)
    assert message in str(error.value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, 0, -1, 1.5])
def test_a_number_out_of_its_range_is_named_with_the_range(value):
    with pytest.raises(UserError, match=rf"train\.radius={value} must be above 0 and at most 1\.\nHalve it"):
        codec.require_range(Circle(radius=value), "radius", above=0, most=1, prefix="train.", remedy="Halve it.")


@pytest.mark.parametrize("value", [None, 0.5, 1])
def test_a_number_in_its_range_and_none_are_taken(value):
    codec.require_range(Circle(radius=value), "radius", above=0, most=1)


def every_dataclass():
    modules = [found.name for found in pkgutil.walk_packages(zhichun.__path__, "zhichun.")]
    of_modules = (vars(importlib.import_module(name)).values() for name in modules if not name.endswith("__main__"))
    kinds = {kind for values in of_modules for kind in values if isinstance(kind, type)}
    ours = [kind for kind in kinds if dataclasses.is_dataclass(kind) and kind.__module__.startswith("zhichun.")]
    return sorted(ours, key=lambda kind: kind.__name__)


def is_numeric(hint):
    return hint in (int, float) or any(map(is_numeric, typing.get_args(hint)))


def numeric_settings():
    """Every number that a person may set and need not: those of keyword-only dataclasses, and of metrics."""
    for kind in every_dataclass():
        if (
            inspect.isabstract(kind) or kind in (VocabularySizes, Answer) or issubclass(kind, Engine)
        ):  # nobody sets these
            continue
        for each in dataclasses.fields(kind):
            required = each.default is each.default_factory is dataclasses.MISSING
            set_by_a_person = each.kw_only or issubclass(kind, Metric)
            if set_by_a_person and not required and is_numeric(each.type):
                yield pytest.param(kind, each.name, each.type, id=f"{kind.__name__}.{each.name}")


NUMERIC_SETTINGS = list(numeric_settings())
REQUIRED = {
    ExportConfig: dict.fromkeys(("task", "max_length", "fields", "inputs", "side_features", "checks", "about"), ()),
    SoftLabels: {"predictions": ("run",)},
    Translation: {"translate": None},
    ServeSettings: {"run": Path("run")},
    JudgingJob: dict.fromkeys(("chat", "prompt", "pairs", "out", "cache")),
    SettleJudges: {"mode": "majority", "labels": {}, "named": {}},
}


def test_settings_of_all_parts_are_found():
    found = {param.id for param in NUMERIC_SETTINGS}
    assert found > {"TrainSettings.learning_rate", "Focal.class_weights", "MLM.share", "ModelSettings.brand", "nDCG.k"}
    assert found > {"TinyEncoder.heads", "Word2VecSettings.sample", "Question.latency", "Limits.seconds", "FGM.epsilon"}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("kind", "name", "hint"), NUMERIC_SETTINGS)
def test_no_numeric_setting_takes_what_is_no_number(kind, name, hint, value):
    if "tuple[tuple" in str(hint):
        value = (((0.0, 0.5), (0.5, value)),)
    elif "tuple" in str(hint) or "Sequence" in str(hint):
        value = (1.0, value)
    elif "Mapping" in str(hint) or "dict" in str(hint):
        value = {"E": value}
    with pytest.raises(UserError):
        kind(**REQUIRED.get(kind, {}), **{name: value})

"""Settings to JSON and back: frozen dataclasses of plain values, of other dataclasses, and of kinds.

Where a field may hold one of several dataclasses (a loss, a method), its JSON names the class under ``kind``: one of a
union, or one that derives from an abstract class.
"""

import dataclasses
import inspect
import json
import math
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from zhichun.core.errors import UserError, suggest
from zhichun.core.files import read_json, write_json

T = TypeVar("T")


def encode(value: Any) -> Any:
    """Turn settings into JSON values; every dataclass carries its ``kind``."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"kind": type(value).__name__, **fields}
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    return value


def decode(hint: type[T], value: Any, path: str = "") -> T:
    """Turn JSON values into settings of the type that is asked for.

    Parameters
    ----------
    hint
        The type: a dataclass, a union of dataclasses, a plain type, ``Literal`` or ``tuple[X, ...]``.
    value
        The JSON value. For a union of dataclasses the bare name of a kind stands for its defaults.
    path
        Dotted name for messages.

    Raises
    ------
    UserError
        For an unknown field or kind (answered with the nearest right one) or a value of the wrong type.
    """
    decoded: T = _decode(hint, value, path)
    return decoded


def _decode(hint: Any, value: Any, path: str) -> Any:
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        return _decode_union(typing.get_args(hint), value, path)
    if hint is Any:
        return value
    if origin is dict:
        if not isinstance(value, dict):
            raise UserError(f"{path}={value!r} is no object.")
        return {name: _decode(typing.get_args(hint)[1], item, f"{path}.{name}") for name, item in value.items()}
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise UserError(f'{path}={value!r} is not a list, such as ["title", "brand"].')
        return tuple(_decode(typing.get_args(hint)[0], item, path) for item in value)
    if kinds := kinds_of(hint):
        return _decode_dataclass(kinds, value, path)
    if origin is typing.Literal:
        choices = typing.get_args(hint)
        if isinstance(value, list | dict) or value not in choices:
            raise UserError(f"{path}={value!r} is unknown.", remedy=suggest(str(value), map(str, choices)))
        return value
    if hint is float and type(value) is int:
        value = float(value) if abs(value) <= sys.float_info.max else math.inf
    if hint is float and type(value) is float and not math.isfinite(value):
        raise UserError(f"{path}={value} is not a finite number.")
    if type(value) is not hint:
        raise UserError(f"{path}={value!r} is not of type {getattr(hint, '__name__', hint)}.")
    return value


def _decode_union(choices: tuple[Any, ...], value: Any, path: str) -> Any:
    if value is None and type(None) in choices:
        return None
    kinds = {name: kind for choice in choices for name, kind in kinds_of(choice).items()}
    if kinds:
        return _decode_dataclass(kinds, value, path)
    plain = [choice for choice in choices if choice is not type(None)]
    for choice in plain[:-1]:
        try:
            return _decode(choice, value, path)
        except UserError:
            continue
    return _decode(plain[-1], value, path)


def _decode_dataclass(kinds: dict[str, Any], value: Any, path: str) -> Any:
    if isinstance(value, str):
        value = {"kind": value}
    if not isinstance(value, Mapping):
        raise UserError(f"{path}={value!r} should name one of {sorted(kinds)}.")
    kind = value.get("kind", next(iter(kinds)) if len(kinds) == 1 else "")
    if not isinstance(kind, str) or kind not in kinds:
        raise UserError(f"{path} has no kind {kind!r}.", remedy=suggest(str(kind), kinds))
    cls = kinds[kind]
    hints = typing.get_type_hints(cls)
    arguments = {}
    for name, item in value.items():
        if name == "kind":
            continue
        inner = f"{path}.{name}" if path else name
        if name not in hints:
            known = [f"{path}.{known}" if path else known for known in hints]
            raise UserError(f"there is no setting {inner!r}.", remedy=suggest(inner, known))
        arguments[name] = _decode(hints[name], item, inner)
    for field in dataclasses.fields(cls):
        needed = dataclasses.MISSING is field.default is field.default_factory
        if needed and field.name not in arguments:
            raise UserError(f"{path}.{field.name} is missing." if path else f"{field.name} is missing.")
    return cls(**arguments)


def parameter_docs(docstring: str) -> dict[str, str]:
    """Read what a docstring says of each parameter."""
    found: dict[str, str] = {}
    names: list[str] = []
    for line in inspect.cleandoc(docstring).partition("Parameters\n----------\n")[2].splitlines():
        if line and not line.startswith(" "):
            names = line.strip().split(", ")
        elif line:
            found |= {name: f"{found.get(name, '')} {line.strip()}".strip() for name in names}
    return found


def read_settings(hint: type[T], path: Path, *, format: int, remedy: str) -> T:
    """Read a configuration that `write_settings` wrote.

    Parameters
    ----------
    hint
        The dataclass that it holds.
    path
        The JSON file.
    format
        The number of the format that this version reads.
    remedy
        What to do where it is damaged.

    Raises
    ------
    UserError
        When it is damaged, of another format, or holds something else.
    """
    content = read_json(path, {"format": int}, remedy)
    if content["format"] != format:
        problem = f"is of format {content['format']}, of another version of zhichun; this version reads {format}."
        raise UserError(problem, file=path, remedy=remedy)
    try:
        return decode(hint, {name: value for name, value in content.items() if name not in ("format", "kind")})
    except UserError as error:
        raise UserError(f"is not as it was written: {error.problem}", file=path, remedy=remedy) from error


def write_settings(settings: Any, path: Path, *, format: int, kind: str) -> None:
    """Write a configuration with the kind of folder that it describes."""
    write_json(path, {"kind": kind, "format": format, **dataclasses.asdict(settings)})


def require_range(
    settings: Any,
    *names: str,
    above: float = -math.inf,
    least: float = -math.inf,
    below: float = math.inf,
    most: float = math.inf,
    prefix: str = "",
    remedy: str = "",
) -> None:
    """Refuse numbers of settings that are out of a range, not finite, or a boolean; those that are ``None`` are off.

    Parameters
    ----------
    settings
        A dataclass of settings.
    names
        Its fields.
    above, least, below, most
        The range, without and with its ends.
    prefix
        What stands before the name, such as ``train.``; the kind of the settings if not given.
    remedy
        What to do, such as how to switch off what a zero would.

    Raises
    ------
    UserError
        Names the first that is not in it.
    """
    ends = [
        f"{what} {end:g}"
        for what, end in (("above", above), ("at least", least), ("below", below), ("at most", most))
        if math.isfinite(end)
    ]
    for name in names:
        value = getattr(settings, name)
        if value is None or (
            type(value) in (int, float) and math.isfinite(value) and above < value < below and least <= value <= most
        ):
            continue
        given = f"{prefix}{name}={value}" if prefix else f"{type(settings).__name__} with {name}={value}:"
        raise UserError(f"{given} must be {' and '.join(ends) or 'a finite number'}.", remedy=remedy)


def assigned(settings: Any, assignments: Sequence[str]) -> dict[str, Any]:
    """Encode settings and change them as ``--set KEY=VALUE`` says, in order.

    Parameters
    ----------
    settings
        A dataclass.
    assignments
        The value is JSON where it can be, and text otherwise.

    Returns
    -------
    dict
        What `decode` takes; nothing in it has been checked together yet.

    Raises
    ------
    UserError
        For a misspelt key, answered with the nearest right one.
    """
    value: dict[str, Any] = encode(settings)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise UserError(f"--set {assignment!r} has no value.", remedy="Write --set KEY=VALUE.")
        _assign(type(settings), value, key.strip(), _parse(text))
    return value


def _assign(cls: Any, value: dict[str, Any], key: str, item: Any) -> None:
    """Put a value where a key leads to; names that are not there are refused when all is decoded."""
    *outer, last = key.split(".")
    for place, name in enumerate(outer):
        if name not in value:
            value[name] = item
            return
        kinds = kinds_of(typing.get_type_hints(cls)[name])
        inner = value[name] = _filled(kinds, value[name])
        if not isinstance(inner, dict) or not dataclasses.fields(kinds[inner["kind"]]):
            found, said = ".".join(outer[: place + 1]), inner["kind"] if isinstance(inner, dict) else repr(inner)
            raise UserError(f"{found} is {said} and has no setting {last!r}.", remedy="Set it as a whole.")
        cls, value = kinds[inner["kind"]], inner
    value[last] = item


def kinds_of(hint: Any) -> dict[str, Any]:
    """List the dataclasses that a field may hold, by name."""
    if inspect.isabstract(hint):
        return {name: kind for part in hint.__subclasses__() for name, kind in kinds_of(part).items()}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return {hint.__name__: hint}
    return {name: kind for choice in typing.get_args(hint) for name, kind in kinds_of(choice).items()}


def _filled(kinds: Mapping[str, Any], value: Any) -> Any:
    """Return a kind that was named, alone or with some of its settings, the defaults of the others."""
    given = {"kind": value} if isinstance(value, str) else value
    if not isinstance(given, dict) or given.get("kind") not in kinds:
        return value
    defaults = {
        field.name: encode(field.default_factory() if callable(field.default_factory) else field.default)
        for field in dataclasses.fields(kinds[given["kind"]])
        if field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
    }
    return {"kind": given["kind"], **defaults, **given}


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text

"""What the pages share: templates that escape every text, and names of figures and classes as people write them."""

from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from zhichun.core import schema
from zhichun.core.files import write_text
from zhichun.measure.report.plot import Plot
from zhichun.metrics.figures import title_of

PACKAGE: Final = "zhichun.measure.report"

LANGUAGES: Final = {"us": "en", "es": "es", "jp": "ja"}


class Figure(NamedTuple):
    """A drawing, what it shows in words, and the styles of its lines with their names."""

    plot: Plot
    text: str
    legend: tuple[tuple[str, str], ...] = ()


def figure_name(key: str, tasks: Mapping[str, str] = MappingProxyType({})) -> str:
    """Name a figure of ``metrics.json``, or of a pretext task by the names of `pretext_tasks`, for people."""
    if key.startswith("substitute."):
        return f"substitutes against the rest: {title_of(key.removeprefix('substitute.'))}"
    task, _, figure = key.partition(".")
    return f"{tasks[task]}: {figure}" if task in tasks else title_of(key)


def pretext_tasks(recipe: Mapping[str, Any]) -> dict[str, str]:
    """Name the pretext tasks that a recorded recipe learns, by the prefix of their figures."""
    of = recipe.get("objective", {})
    return {name: task["kind"] for name, task in of.items() if isinstance(task, Mapping) and name != "ema"}


def class_name(label: str) -> str:
    """Write a class in full, ``E Exact``, with a space that no line is broken at."""
    return f"{label}\u00a0{schema.LABEL_NAMES[label]}" if label in schema.LABEL_NAMES else label


def language(locale: str) -> str:
    """Return the language of a locale's texts as HTML's ``lang`` has it, empty where it is not known."""
    return LANGUAGES.get(locale, "")


def in_order(locales: Iterable[str]) -> list[str]:
    """Put locales into the order of `schema.LOCALES`, all others after these by name."""
    known = list(schema.LOCALES)
    return sorted(set(locales), key=lambda locale: (known.index(locale) if locale in known else len(known), locale))


def bar(text: str, share: float) -> dict[str, Any]:
    """Make a cell with a bar under its text; ``share`` is its length."""
    return {"text": text, "bar": share}


def heat_row(name: str, counts: Iterable[int], places: int = 0) -> list[Any]:
    """Make a row of counts that are shaded by their share of the row."""
    counts = list(counts)
    shares = [count / max(1, sum(counts)) for count in counts]
    cells = zip(counts, shares, strict=True)
    return [name, *({"text": f"{c:,}", "heat": share, "note": f"{share:.{places}%}"} for c, share in cells)]


def asset(name: str, package: str = PACKAGE) -> str:
    """Read a style sheet or script that lies in a package."""
    return resources.files(package).joinpath(name).read_text("utf-8")


def write_page(path: Path, template: str, *, package: str = PACKAGE, **values: Any) -> Path:
    """Write a page; the same values give the same bytes.

    Parameters
    ----------
    path
        The file to make or replace.
    template
        A file in ``templates`` of the package.
    values
        What the template shows; texts are escaped.
    """
    write_text(path, _environment(package).get_template(template).render(values) + "\n")
    return path


@cache
def _environment(package: str) -> Environment:
    loader = ChoiceLoader([PackageLoader(each) for each in dict.fromkeys((package, PACKAGE))])
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals["asset"] = lambda *named: Markup(asset(*named))
    environment.filters |= {
        "class_name": class_name,
        "count": lambda number: f"{number:,}",
        "in_order": in_order,
        "language": language,
        "share": lambda share: f"{share:.1%}",
    }
    return environment

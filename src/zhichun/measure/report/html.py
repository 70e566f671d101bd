"""HTML from Python: every text is escaped unless it is markup already, so that no data can become markup."""

import html
from collections.abc import Iterable, Sequence
from importlib import resources


class Html(str):
    """Text that is markup already, and is not escaped again."""


def tag(name: str, *children: str, **attributes: str) -> Html:
    """Make an element.

    Parameters
    ----------
    name
        Name of the element.
    children
        Texts, which are escaped, and `Html`, which is not.
    attributes
        Attributes; ``class_`` stands for ``class`` and ``aria_label`` for ``aria-label``.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(value)}"' for key, value in attributes.items()
    )
    return Html(f"<{name}{written}>{joined(children)}</{name}>")


def joined(children: Iterable[str]) -> Html:
    """Put elements and texts one after another."""
    return Html("".join(child if isinstance(child, Html) else html.escape(child) for child in children))


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool = True) -> Html:
    """Make a table that scrolls by itself where the screen is narrow.

    Parameters
    ----------
    caption
        What the table shows.
    columns
        Names of the columns; the first is that of the row headers.
    rows
        Cells by row, the row's header first. A cell that is `Html` is a whole ``<td>``.
    numbers
        Whether the cells are numbers, which are set flush right.
    """
    head = tag("tr", *(tag("th", name, scope="col") for name in columns))
    body = [
        tag("tr", tag("th", header, scope="row"), *(c if isinstance(c, Html) else tag("td", c) for c in cells))
        for header, *cells in rows
    ]
    made = tag(
        "table",
        tag("caption", tag("span", caption)),
        tag("thead", head),
        tag("tbody", *body),
        class_="numbers" if numbers else "texts",
    )
    return tag("div", made, class_="scroll", role="region", tabindex="0", aria_label=caption)


def bar_cell(text: str, share: float) -> Html:
    """Make a table's cell with a text above a bar.

    Parameters
    ----------
    text
        What the bar says, in figures.
    share
        Length of the bar, 0 to 1.
    """
    return tag("td", text, tag("span", class_="bar", style=f"--share:{share:.3f}"), class_="barred")


def cards(entries: Iterable[tuple[str, str, Iterable[str]]]) -> Html:
    """Set the figures that matter most in large type: what, how much, and notes under it."""
    made = [
        tag("div", tag("dt", what), tag("dd", value, *(tag("small", note) for note in notes)))
        for what, value, notes in entries
    ]
    return tag("dl", *made, class_="cards") if made else Html("")


def figure(image: Html, *caption: str) -> Html:
    """Put a caption under an image."""
    return tag("figure", image, tag("figcaption", *caption))


def beside(*children: str) -> Html:
    """Put things side by side, and one below the other where the screen is narrow."""
    return tag("div", *children, class_="plots")


def folded(summary: str, *children: str) -> Html:
    """Hide something behind a line that opens it."""
    return tag("details", tag("summary", summary), *children)


def section(title: str, *children: str) -> Html:
    """Make a section under a heading."""
    return tag("section", tag("h2", title), *children)


def asset(name: str, package: str = "zhichun.measure.report") -> Html:
    """Read a style sheet or script that lies in a package."""
    return Html(resources.files(package).joinpath(name).read_text("utf-8"))


def page(title: str, *sections: str, style: str = "") -> str:
    """Make the whole page; nothing in it comes from elsewhere.

    Parameters
    ----------
    title
        Title and first heading.
    *sections
        What is on it.
    style
        Style sheet of this page, after the one of all pages.
    """
    head = tag(
        "head",
        Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<meta name="color-scheme" content="light dark">'),
        tag("title", title),
        tag("style", Html(asset("style.css") + style)),
    )
    body = tag("body", tag("main", tag("h1", title), *sections))
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"

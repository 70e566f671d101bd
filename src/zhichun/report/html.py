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


def figure(image: Html, *caption: str) -> Html:
    """Put a caption under an image."""
    return tag("figure", image, tag("figcaption", *caption))


def folded(summary: str, *children: str) -> Html:
    """Hide something behind a line that opens it."""
    return tag("details", tag("summary", summary), *children)


def section(title: str, *children: str) -> Html:
    """Make a section under a heading."""
    return tag("section", tag("h2", title), *children)


def page(title: str, *sections: str) -> str:
    """Make the whole page; nothing in it comes from elsewhere."""
    style = resources.files("zhichun.report").joinpath("style.css").read_text("utf-8")
    head = tag(
        "head",
        Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<meta name="color-scheme" content="light dark">'),
        tag("title", title),
        tag("style", Html(style)),
    )
    body = tag("body", tag("main", tag("h1", title), *sections))
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"

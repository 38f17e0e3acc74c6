"""The layout of a page: sections, cards, tiles and tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from keras_candle.report.markup import Markup, element, joined, shortened
from keras_candle.report.quantities import exact, short

# The text of an empty cell.
NOTHING = "—"
_LONGEST = 48


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: its text or markup.
        value: the sort key of the column; None: the text.
        title: its tooltip.
        style: class names of the style sheet.
    """

    text: object
    value: float | None = None
    title: str | None = None
    style: str | None = None


def number_cell(value: float | None, text: str | None = None) -> Cell:
    """Return a cell with a number, which is also its sort key.

    Args:
        value: the number; None: an empty cell.
        text: its text; None: a few of its digits.
    """
    if value is None:
        return Cell(NOTHING, style="right")
    return Cell(short(value) if text is None else text, value, exact(value), "right")


def text_cell(text: object, longest: int = _LONGEST) -> Cell:
    """Return a cell with a text, shortened if it is long."""
    whole = str(text)
    line = shortened(whole, longest)
    style = "long" if longest > _LONGEST else None
    return Cell(line or NOTHING, title=whole if line != whole else None, style=style)


@dataclass(frozen=True)
class LayoutRow:
    """A row of a table.

    Attributes:
        key: elements with the same key are highlighted together.
        style: class names of the style sheet.
    """

    cells: Sequence[Cell]
    key: str | None = None
    style: str | None = None


def table(
    head: Sequence[object],
    rows: Iterable[LayoutRow],
    *,
    sortable: bool = False,
    name: str | None = None,
    style: str | None = None,
) -> Markup:
    """Return a table in a box that scrolls if the table is large.

    Args:
        head: the column headings.
        rows: each with a cell for each column; the first one is the row's heading.
        sortable: whether a click on a column's head sorts it.
        name: its id on the page.
        style: class names of the style sheet.
    """
    # Headings of numeric columns are right-aligned, too.
    found = list(rows)
    numeric = [
        any(row.cells[column].style == "right" for row in found) for column in range(len(head))
    ]
    heads = [
        element("th", shortened(text, 28), scope="col", class_="right" if right else None,
                title=text if shortened(text, 28) != text else None)
        for text, right in zip(head, numeric, strict=True)
    ]  # fmt: skip
    body = element("tbody", *[_row(each) for each in found])
    style = " ".join(filter(None, ("sortable" if sortable else None, style))) or None
    whole = element("table", element("thead", element("tr", *heads)), body, class_=style, id=name)
    return element("div", whole, class_="scroll")


def _row(row: LayoutRow) -> Markup:
    cells = [
        element("td" if column else "th", cell.text, title=cell.title, class_=cell.style,
                data_v=None if cell.value is None else repr(float(cell.value)),
                scope=None if column else "row")
        for column, cell in enumerate(row.cells)
    ]  # fmt: skip
    return element("tr", *cells, data_key=row.key, class_=row.style)


def section(title: object, *parts: object, name: str | None = None, lead: object = None) -> Markup:
    """Return a section of the page with a heading; without content it is left out.

    Args:
        title: the heading.
        *parts: its content.
        name: its id on the page.
        lead: an introductory sentence beneath the heading.
    """
    content = joined(*parts)
    if not content:
        return content
    intro = None if lead is None else element("p", lead, class_="soft")
    return element("section", element("h2", title), intro, content, id=name)


def subsection(title: object, *parts: object, lead: object = None) -> Markup:
    """Return a part of a section with a heading; without content it is left out."""
    content = joined(*parts)
    if not content:
        return content
    intro = None if lead is None else element("p", lead, class_="soft")
    return joined(element("h3", title), intro, content)


def grid(*cards: Markup | None) -> Markup:
    """Return cards side by side, as many as fit; nothing without cards."""
    found = [each for each in cards if each]
    return element("div", *found, class_="grid") if found else Markup("")


def card(content: Markup | None, *, wide: bool = False) -> Markup:
    """Return a frame around a chart; nothing without a chart."""
    if not content:
        return Markup("")
    return element("div", content, class_="card wide" if wide else "card")


def views(**named: Markup) -> Markup:
    """Return alternative views, of which one is visible at a time.

    Args:
        **named: the views by name, an underscore for a space; the first one is visible at first.
    """
    found = {name.replace("_", " "): each for name, each in named.items() if each}
    if len(found) < 2:
        return joined(*found.values())
    shown = [element("div", each, data_view=name) for name, each in found.items()]
    return element("div", element("div", class_="views"), *shown)


def facts(pairs: Iterable[tuple[object, Cell]]) -> Markup:
    """Return a list of named values, as many side by side as fit.

    Args:
        pairs: the name and the value of each.
    """
    found = [
        element("div", element("dt", name), element("dd", cell.text, title=cell.title))
        for name, cell in pairs
    ]
    return element("dl", *found, class_="card") if found else Markup("")


def tiles(*pairs: tuple[object, object] | None) -> Markup:
    """Return large figures, each with its name beneath it."""
    found = [
        element("div", element("b", value), element("span", name), class_="tile")
        for value, name in filter(None, pairs)
    ]
    return element("div", *found, class_="tiles")


def missing(sentences: Iterable[str]) -> Markup:
    """Return a list of the missing and damaged data; nothing without any."""
    lines = [element("li", each) for each in dict.fromkeys(sentences)]
    if not lines:
        return Markup("")
    heading = element("b", "Missing from this page")
    return element("div", heading, element("ul", *lines), class_="missing")

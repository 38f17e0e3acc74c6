"""What a page is made of beside charts: sections, cards, tiles and tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from keras_candle.report.markup import Markup, element, joined, shortened
from keras_candle.report.quantities import exact, short

# In a cell that has nothing to tell.
NOTHING = "—"
_LONGEST = 48


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: what stands there, or markup.
        value: by which the column is sorted; None where it is the text.
        title: what a reader is told who points at it.
        style: class names of the style sheet.
    """

    text: object
    value: float | None = None
    title: str | None = None
    style: str | None = None


def of_number(value: float | None, text: str | None = None) -> Cell:
    """A cell with a number, by which it is sorted.

    Args:
        value: the number; None where there is none.
        text: how it stands there; a few of its digits by default.
    """
    if value is None:
        return Cell(NOTHING, style="right")
    return Cell(short(value) if text is None else text, value, exact(value), "right")


def of_text(text: object, longest: int = _LONGEST) -> Cell:
    """A cell with a text, shortened where it is long."""
    whole = str(text)
    line = shortened(whole, longest)
    style = "long" if longest > _LONGEST else None
    return Cell(line or NOTHING, title=whole if line != whole else None, style=style)


@dataclass(frozen=True)
class LayoutRow:
    """A row of a table.

    Attributes:
        key: what is highlighted together with it.
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
    """A table in a box of its own, which scrolls where it is large.

    Args:
        head: what its columns are.
        rows: each with a cell for each column; the first one is the row's heading.
        sortable: whether a click on a column's head sorts it.
        name: its id on the page.
        style: class names of the style sheet.
    """
    # A column of numbers has its head on their side.
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
    """A part of the page with a heading; without any content it is left out.

    Args:
        title: the heading.
        *parts: its content.
        name: its id on the page.
        lead: a sentence beneath the heading.
    """
    content = joined(*parts)
    if not content:
        return content
    said = None if lead is None else element("p", lead, class_="soft")
    return element("section", element("h2", title), said, content, id=name)


def part(title: object, *parts: object, lead: object = None) -> Markup:
    """A part of a section with a heading; without any content it is left out."""
    content = joined(*parts)
    if not content:
        return content
    said = None if lead is None else element("p", lead, class_="soft")
    return joined(element("h3", title), said, content)


def grid(*cards: Markup | None) -> Markup:
    """Cards side by side, as many as fit; nothing where there is none."""
    found = [each for each in cards if each]
    return element("div", *found, class_="grid") if found else Markup("")


def card(content: Markup | None, *, wide: bool = False) -> Markup:
    """A frame around a chart; nothing where there is none."""
    if not content:
        return Markup("")
    return element("div", content, class_="card wide" if wide else "card")


def views(**named: Markup) -> Markup:
    """Different views of the same thing, of which one is seen at a time.

    Args:
        **named: what the reader chooses by, an underscore for a space; the first is seen at first.
    """
    found = {name.replace("_", " "): each for name, each in named.items() if each}
    if len(found) < 2:
        return joined(*found.values())
    shown = [element("div", each, data_view=name) for name, each in found.items()]
    return element("div", element("div", class_="views"), *shown)


def facts(pairs: Iterable[tuple[object, Cell]]) -> Markup:
    """What is told of one thing, as many side by side as fit.

    Args:
        pairs: the name of each, and what it is.
    """
    found = [
        element("div", element("dt", name), element("dd", cell.text, title=cell.title))
        for name, cell in pairs
    ]
    return element("dl", *found, class_="card") if found else Markup("")


def tiles(*pairs: tuple[object, object] | None) -> Markup:
    """Large figures, each with what it is beneath it."""
    found = [
        element("div", element("b", value), element("span", what), class_="tile")
        for value, what in filter(None, pairs)
    ]
    return element("div", *found, class_="tiles")


def missing(sentences: Iterable[str]) -> Markup:
    """What could not be read or is not there; nothing where all is."""
    lines = [element("li", each) for each in dict.fromkeys(sentences)]
    if not lines:
        return Markup("")
    heading = element("b", "What this page cannot tell")
    return element("div", heading, element("ul", *lines), class_="missing")

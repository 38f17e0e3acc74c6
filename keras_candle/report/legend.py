"""The legend of a chart, and the markers of events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keras_candle.report.markup import Markup, element, joined, shortened, width_of

# The font size of a chart's text, in the chart's units.
FONT = 12.0
ROW = 18.0
MARKERS = {
    "checkpoint": "M0-5L4 0L0 5L-4 0Z",
    "best": "M0-7L2-2.2L7-2.2L3 1.2L4.4 6.2L0 3.2L-4.4 6.2L-3 1.2L-7-2.2L-2-2.2Z",
    "resume": "M-4-6L6 0L-4 6Z",
    "stop": "M-5-5H5V5H-5Z",
    "stall": "M-6-4L-4-6L0-2L4-6L6-4L2 0L6 4L4 6L0 2L-4 6L-6 4L-2 0Z",
    "other": "M-4 0A4 4 0 1 0 4 0A4 4 0 1 0-4 0Z",
}


@dataclass(frozen=True)
class LegendEntry:
    """An entry of a legend.

    Attributes:
        text: its text.
        style: class names of the style sheet.
        key: elements with the same key are highlighted together.
        shape: "line", "dot", "bar" or a name of `MARKERS`.
    """

    text: str
    style: str
    key: str | None = None
    shape: str = "line"


def legend(entries: Sequence[LegendEntry], left: float, right: float) -> tuple[Markup, int]:
    """Lay out legend entries in rows.

    Args:
        entries: in their order.
        left: the left end of the rows.
        right: the right limit of the rows.

    Returns:
        The markup, from y = 0 downwards, and the number of rows.
    """
    parts, x, row = [], left, 0
    for each in entries:
        text = shortened(each.text, 48)
        room = 30 + width_of(text, FONT) + 12
        if x > left and x + room > right:
            x, row = left, row + 1
        y = row * ROW + 8
        label = element("text", text, x=x + 26, y=y + 4, class_="entry")
        parts.append(element("g", _sample(each, x, y), label, data_key=each.key, class_="legend"))
        x += room
    return joined(*parts), row + 1 if entries else 0


def marker(kind: str, x: float, y: float, tooltip: str | None = None) -> Markup:
    """Return a marker at a point: one of `MARKERS`; for an unknown kind, a circle."""
    kind = kind if kind in MARKERS else "other"
    title = None if tooltip is None else element("title", tooltip)
    place = f"translate({x:.1f},{y:.1f})"
    drawn = element("path", title, d=MARKERS[kind], transform=place)
    return element("g", drawn, class_=f"sign {kind}")


def _sample(entry: LegendEntry, x: float, y: float) -> Markup:
    if entry.shape == "line":
        return element("path", d=f"M{x:.1f} {y:.1f}h20", class_=f"line {entry.style}")
    if entry.shape == "dot":
        return element("circle", cx=x + 12, cy=y, r=4, class_=f"dot {entry.style}")
    if entry.shape == "bar":
        return element(
            "rect", x=x + 6, y=y - 6, width=13, height=12, rx=2, class_=f"bar {entry.style}"
        )
    return marker(entry.shape, x + 12, y)

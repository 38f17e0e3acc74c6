"""Charts as SVG: lines, dots, bars, areas and markers in a frame with two axes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from keras_candle.report.axes import Axis, Categories, Tick
from keras_candle.report.legend import FONT, ROW, LegendEntry, legend, marker
from keras_candle.report.markup import Markup, element, joined, shortened, width_of

_MOST_POINTS, _MOST_DOTS = 600, 80
_LONGEST = 30


@dataclass
class Chart:
    """A chart to draw on.

    Attributes:
        title: the heading.
        x: the axis from left to right.
        y: the axis from the bottom to the top.
        width: of the whole chart, in units in which the text has size 12.
        height: of the frame, without title, legend and labels.
        legend: the entries of its legend.
        key: its key for the page's script.
    """

    title: str
    x: Axis | Categories
    y: Axis | Categories
    width: float = 560.0
    height: float = 220.0
    legend: list[LegendEntry] = field(default_factory=list)
    key: str | None = None
    _marks: list[Markup] = field(default_factory=list)

    def __post_init__(self) -> None:
        texts = [shortened(each.text, _LONGEST) for each in self.y.ticks()]
        widest = max((width_of(each, FONT) for each in texts), default=0.0)
        self.left = max(34.0, widest + 12)
        self.right = self.width - 14

    def at(self, x: float | str, y: float | str) -> tuple[float, float]:
        """Return the position of a point, from the frame's top left corner."""
        right, up = self.x.place(x), self.y.place(y)  # type: ignore[arg-type]
        return self.left + right * (self.right - self.left), (1 - up) * self.height

    def line(
        self,
        points: Sequence[tuple[float, float, str]],
        style: str,
        key: str | None = None,
        *,
        steps: bool = False,
    ) -> None:
        """Draw a line through (x, y, tooltip) points.

        Args:
            points: in the order of x.
            style: class names of the style sheet.
            key: elements with the same key are highlighted together.
            steps: whether to draw steps instead of slopes.
        """
        if not points:
            return
        places = [self.at(x, y) for x, y, _ in points]
        drawn = _thinned(places)
        path = "".join(f"H{x:.1f}V{y:.1f}" if steps else f"L{_xy((x, y))}" for x, y in drawn[1:])
        path = f"M{_xy(drawn[0])}{path}"
        self._marks.append(element("path", d=path, class_=f"line {style}", data_key=key))
        every = -(-len(points) // _MOST_DOTS)
        for (x, y), (*_, tooltip) in list(zip(places, points, strict=True))[::every]:
            self._marks.append(_dot(x, y, f"small {style}", tooltip, key))

    def area(self, points: Sequence[tuple[float, float, float]], style: str, tooltip: str) -> None:
        """Fill the area between two lines: (x, lower y, upper y), in the order of x."""
        there = [_xy(self.at(x, upper)) for x, _, upper in points]
        back = [_xy(self.at(x, lower)) for x, lower, _ in reversed(points)]
        path = f"M{'L'.join([*there, *back])}Z"
        self._marks.append(
            element("path", element("title", tooltip), d=path, class_=f"area {style}")
        )

    def rule(self, x: float, tooltip: str) -> None:
        """Draw a vertical line from the bottom to the top."""
        across, _ = self.at(x, 0.0)
        drawn = element(
            "path", element("title", tooltip), d=f"M{across:.1f} 0V{self.height:.0f}", class_="rule"
        )
        self._marks.append(drawn)

    def dots(self, points: Iterable[tuple[float | str, float | str, str, str, str | None]]) -> None:
        """Draw points: (x, y, class names, tooltip, key)."""
        for x, y, style, tooltip, key in points:
            self._marks.append(_dot(*self.at(x, y), style, tooltip, key))

    def bar(
        self,
        x: tuple[float, float],
        y: str,
        style: str,
        tooltip: str,
        key: str | None = None,
    ) -> None:
        """Draw a horizontal bar from x[0] to x[1], in a category of y."""
        (left, middle), (right, _) = self.at(x[0], y), self.at(x[1], y)
        lanes = len(self.y.values) if isinstance(self.y, Categories) else 20
        high = 0.7 * min(self.height / lanes, 26.0)
        drawn = element(
            "rect",
            element("title", tooltip),
            x=left,
            y=middle - high / 2,
            width=max(right - left, 1.0),
            height=high,
            rx=1.5,
            class_=f"bar {style}",
            data_key=key,
        )
        self._marks.append(drawn)

    def annotate(self, x: float, y: float | str, text: str) -> None:
        """Write a text whose left end is at a point."""
        left, top = self.at(x, y)
        self._marks.append(element("text", text, x=left + 5, y=top + 4, class_="note"))

    def marker(self, x: float, y: float | str, kind: str, tooltip: str) -> None:
        """Draw the marker of an event: see `legend.MARKERS`."""
        self._marks.append(marker(kind, *self.at(x, y), tooltip))

    def svg(self) -> Markup:
        """Return the chart as an SVG element."""
        entries, rows = legend(self.legend, self.left, self.right)
        top = 26 + rows * ROW + (8 if rows else 0)
        height = top + self.height + (42 if self.x.label else 26)
        frame = element(
            "g", self._grid(), element("g", *self._marks), transform=f"translate(0,{top:.0f})"
        )
        return element(
            "svg",
            element("text", self.title, x=2, y=14, class_="heading"),
            element("g", entries, transform="translate(0,24)"),
            frame,
            viewBox=f"0 0 {self.width:.0f} {height:.0f}",
            class_="chart",
            role="img",
            aria_label=self.title,
            data_chart=self.key,
        )

    def _grid(self) -> Markup:
        parts = [part for tick in self.y.ticks() for part in self._across(tick)]
        for tick in spaced_ticks(self.x.ticks(), self.right - self.left):
            parts += self._upwards(tick)
        axis = f"M{self.left:.1f} {self.height:.0f}H{self.right:.1f}"
        parts.append(element("path", d=axis, class_="axis"))
        if self.x.label:
            middle, below = (self.left + self.right) / 2, self.height + 35
            parts.append(element("text", self.x.label, x=middle, y=below, class_="label middle"))
        return joined(*parts)

    def _across(self, tick: Tick) -> Iterable[Markup]:
        y = (1 - tick.place) * self.height
        if isinstance(self.y, Axis):
            yield element("path", d=f"M{self.left:.1f} {y:.1f}H{self.right:.1f}", class_="grid")
        text = shortened(tick.text, _LONGEST)
        yield element("text", text, x=self.left - 7, y=y + 4, class_="tick end")

    def _upwards(self, tick: Tick) -> Iterable[Markup]:
        x = self.left + tick.place * (self.right - self.left)
        if isinstance(self.x, Axis):
            yield element("path", d=f"M{x:.1f} 0V{self.height:.0f}", class_="grid")
        text = shortened(tick.text, 12 if isinstance(self.x, Categories) else _LONGEST)
        edge = x + width_of(text, FONT) / 2 > self.width - 1
        place, style = (self.width - 1, "tick end") if edge else (x, "tick middle")
        yield element("text", text, x=place, y=self.height + 17, class_=style)


def spaced_ticks(ticks: Sequence[Tick], room: float) -> list[Tick]:
    """Return every n-th tick, so that their texts don't touch.

    Args:
        ticks: in their order.
        room: the length of the axis.
    """
    widest = max((width_of(shortened(each.text, 12), FONT) + 10 for each in ticks), default=0.0)
    gaps = [after.place - before.place for before, after in itertools.pairwise(ticks)]
    if not gaps or min(gaps) * room >= widest:
        return list(ticks)
    return list(ticks[:: int(-(-widest // (min(gaps) * room)))])


def _dot(x: float, y: float, style: str, tooltip: str, key: str | None) -> Markup:
    radius = 2.2 if style.startswith("small") else 6.0 if "best" in style else 3.6
    return element(
        "circle",
        element("title", tooltip),
        cx=round(x, 1),
        cy=round(y, 1),
        r=radius,
        class_=f"dot {style}",
        data_key=key,
    )


def _thinned(places: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Thin a long line: keep the lowest and the highest point of each piece, in order."""
    if len(places) <= _MOST_POINTS:
        return places
    size = -(-2 * len(places) // _MOST_POINTS)
    kept = []
    for first in range(0, len(places), size):
        piece = places[first : first + size]
        ends = {min(piece, key=lambda each: each[1]), max(piece, key=lambda each: each[1])}
        kept += sorted(ends)
    return [places[0], *kept, places[-1]]


def _xy(place: tuple[float, float]) -> str:
    return f"{place[0]:.1f} {place[1]:.1f}"

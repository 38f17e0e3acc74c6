"""Draw a chart: series over two axes, as the elements of an SVG."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from keras_candle.report.axes import AnyAxis, Axis, Categories, spaced_ticks
from keras_candle.report.formats import shortened, width_of

MARKERS = {
    "checkpoint": "M0-5L4 0L0 5L-4 0Z",
    "best": "M0-7L2-2.2L7-2.2L3 1.2L4.4 6.2L0 3.2L-4.4 6.2L-3 1.2L-7-2.2L-2-2.2Z",
    "resume": "M-4-6L6 0L-4 6Z",
    "stop": "M-5-5H5V5H-5Z",
    "stall": "M-6-4L-4-6L0-2L4-6L6-4L2 0L6 4L4 6L0 2L-4 6L-6 4L-2 0Z",
    "other": "M-4 0A4 4 0 1 0 4 0A4 4 0 1 0-4 0Z",
}
_MOST_POINTS, _MOST_DOTS, _LONGEST, _TOP = 600, 80, 30, 8.0


# An element of the SVG: its tag, attributes, tooltip and text.
Element = tuple[str, dict[str, Any], str, str]


class Point(NamedTuple):
    """A point of a series."""

    x: float | str
    y: float | str = 0.0
    text: str = ""  # its tooltip; in a series of texts, the text
    key: str | None = None  # elements with the same key are highlighted together
    style: str = ""  # instead of the series' own
    end: float = 0.0  # of a range, its right end; of a band, its upper y; of a text, its length


class Series(NamedTuple):
    """Points that are drawn in one way."""

    # "line", "steps", "dots", "ranges" (horizontal bars), "band" (between two lines), "rules"
    # (vertical lines), "texts" or a name of MARKERS
    kind: str
    points: Sequence[Point] = ()  # of lines and bands in the order of x
    style: str = ""  # class names of the style sheet
    label: str = ""  # its text in the legend; empty: not in the legend
    key: str | None = None
    tooltip: str = ""  # of the whole line or band


class Chart(NamedTuple):
    """A drawn chart, in units in which text has size 12."""

    title: str
    width: float
    height: float
    layers: tuple[list[Element], ...]  # the lowest first
    legend: list[tuple[str, str | None, Element]]  # text, key and sample
    wide: bool  # it takes the whole width of the page


def chart(
    title: str,
    axes: tuple[AnyAxis, AnyAxis],
    series: Sequence[Series],
    *,
    wide: bool = False,
    framed: bool = True,
) -> Chart:
    """Draw series over two axes.

    Args:
        title: the heading.
        axes: from left to right, and from the bottom to the top; categories from the top.
        series: in the order in which they are drawn.
        wide: whether the chart takes the whole width of the page.
        framed: whether the axes are drawn; else they have the units of the chart.
    """
    (x, y), width = axes, 1148.0 if wide else 560.0
    labels = [width_of(shortened(text, _LONGEST)) for _, text in y.ticks()] if framed else []
    left, right = (max(22.0, 0.0, *labels) + 12, width - 14) if framed else (0.0, width)
    height = max(46.0, 24.0 * len(y.values)) if isinstance(y, Categories) else 220.0
    height = height if framed or isinstance(y, Categories) else y.low - y.high
    drawing = _Drawing(x, y, left, right, height)
    data, texts = (
        [part for each in series if (each.kind == "texts") == top for part in drawing.series(each)]
        for top in (False, True)
    )
    layers = (list(drawing.axes()) if framed else [], data, texts)
    labelled = {each.label: each for each in series if each.label}
    legend = [(text, each.key, _sample(each)) for text, each in labelled.items()]
    below = 42 if x.label else 26
    return Chart(title, width, _TOP + height + below * framed, layers, legend, wide)


class _Drawing(NamedTuple):
    x: AnyAxis
    y: AnyAxis
    left: float
    right: float
    height: float

    def across(self, x: float | str) -> float:
        return round(self.left + self.x.place(x) * (self.right - self.left), 1)

    def down(self, y: float | str) -> float:
        return self._down(self.y.place(y))

    def _down(self, place: float) -> float:
        down = place if isinstance(self.y, Categories) else 1 - place
        return round(_TOP + down * self.height, 1)

    def axes(self) -> Iterator[Element]:
        bottom = _TOP + self.height
        for place, text in self.y.ticks():
            y = self._down(place)
            if isinstance(self.y, Axis):
                yield _element("path", "grid", d=f"M{self.left:.1f} {y}H{self.right:.1f}")
            yield _text("tick end", shortened(text, _LONGEST), round(self.left - 7, 1), y + 4)
        for place, text in spaced_ticks(self.x.ticks(), self.right - self.left):
            x = round(self.left + place * (self.right - self.left), 1)
            if isinstance(self.x, Axis):
                yield _element("path", "grid", d=f"M{x} {_TOP}V{bottom}")
            line = shortened(text, 12 if isinstance(self.x, Categories) else _LONGEST)
            edge = x + width_of(line) / 2 > self.right + 13
            style = "tick end" if edge else "tick middle"
            yield _text(style, line, self.right + 13 if edge else x, bottom + 17)
        yield _element("path", "axis", d=f"M{self.left:.1f} {bottom}H{self.right:.1f}")
        yield _text("middle", self.x.label, round((self.left + self.right) / 2, 1), bottom + 35)

    def series(self, series: Series) -> Iterator[Element]:
        if series.kind in ("line", "steps", "band") and series.points:
            yield from self.line(series)
            return
        for x, y, text, key, own, end in series.points:
            left, middle, style = self.across(x), self.down(y), own or series.style
            if series.kind == "dots":
                yield _dot(left, middle, style, text, key)
            elif series.kind == "rules":
                yield _element("path", "rule", text, d=f"M{left} {_TOP}v{self.height}")
            elif series.kind == "ranges":
                width = round(max(self.across(end) - left, 1.0), 1)
                place = {"x": left, "y": round(middle - 8.5, 1), "width": width}
                yield _element("rect", f"bar {style}", text, key, "", **place, height=17, rx=1.5)
            elif series.kind == "texts":
                line = shortened(text, int(end) or 48)
                yield _text(style, line, left + 5, middle + 4, text if line != text else "")
            else:
                yield _marker(series.kind, left, middle, text)

    def line(self, series: Series) -> Iterator[Element]:
        places = [(self.across(each.x), self.down(each.y)) for each in series.points]
        (x, y), *rest = _thinned(places)
        form = "H{}V{}" if series.kind == "steps" else "L{} {}"
        path = f"M{x} {y}" + "".join(form.format(*each) for each in rest)
        style, tooltip = series.style, series.tooltip
        if series.kind == "band":
            upper = [f"L{self.across(p.x)} {self.down(p.end)}" for p in reversed(series.points)]
            yield _element("path", f"area {style}", tooltip, d=f"{path}{''.join(upper)}Z")
            return
        yield _element("path", f"line {style}", tooltip, series.key, d=path)
        every = -(-len(places) // _MOST_DOTS)
        for point, place in list(zip(series.points, places, strict=True))[::every]:
            if point.text:
                yield _dot(*place, f"small {style}", point.text, series.key)


def _element(
    tag: str, style: str, tooltip: str = "", key: str | None = None, text: str = "", **place: Any
) -> Element:
    return tag, {"class": style.strip(), **place, "data-key": key}, tooltip, text


def _text(style: str, text: str, x: float, y: float, tooltip: str = "") -> Element:
    return _element("text", style, tooltip, text=text, x=x, y=y)


def _dot(x: float, y: float, style: str, tooltip: str = "", key: str | None = None) -> Element:
    radius = 2.2 if style.startswith("small") else 6.0 if "best" in style else 3.6
    return _element("circle", f"dot {style}", tooltip, key, cx=x, cy=y, r=radius)


def _marker(kind: str, x: float, y: float, tooltip: str = "") -> Element:
    place = f"translate({x} {y})"
    return _element("path", f"sign {kind}", tooltip, d=MARKERS[kind], transform=place)


def _sample(series: Series) -> Element:
    if series.kind in ("line", "steps"):
        return _element("path", f"line {series.style}", d="M0 7h20")
    if series.kind == "dots":
        return _dot(10, 7, series.style)
    if series.kind in MARKERS:
        return _marker(series.kind, 10, 7)
    return _element("rect", f"bar {series.style}", x=4, y=1, width=13, height=12, rx=2)


def _thinned(places: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Thin a long line: keep the lowest and the highest point of each piece, in order."""
    if len(places) <= _MOST_POINTS:
        return places
    kept, size = [], -(-2 * len(places) // _MOST_POINTS)
    for first in range(0, len(places), size):
        by_y = sorted(places[first : first + size], key=lambda each: each[1])
        kept += sorted({by_y[0], by_y[-1]})
    return [places[0], *kept, places[-1]]

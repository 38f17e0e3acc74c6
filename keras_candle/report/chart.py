"""Draw a chart: series over two axes, as the elements of an SVG."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from keras_candle.report.axes import Axis, Categories, spaced_ticks
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


class Element(NamedTuple):
    """An element of the SVG."""

    tag: str
    attributes: dict[str, Any]
    tooltip: str = ""
    text: str = ""


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
    axes: tuple[Axis | Categories, Axis | Categories],
    series: Sequence[Series],
    *,
    height: float = 220.0,
    wide: bool = False,
    framed: bool = True,
) -> Chart:
    """Draw series over two axes.

    Args:
        title: the heading.
        axes: from left to right, and from the bottom to the top.
        series: in the order in which they are drawn.
        height: of the frame, without title, legend and labels.
        wide: whether the chart takes the whole width of the page.
        framed: whether the axes, their ticks and labels are drawn.
    """
    width, left, right = 1148.0 if wide else 560.0, 0.0, 0.0
    if framed:
        labels = [width_of(shortened(each.text, _LONGEST)) for each in axes[1].ticks()]
        left, right = max([34.0, *[each + 12 for each in labels]]), 14.0
    drawing = _Drawing(*axes, left, width - right, height)
    texts = [each for each in series if each.kind == "texts"]
    layers = (
        list(drawing.axes()) if framed else [],
        [part for each in series if each.kind != "texts" for part in drawing.series(each)],
        [part for each in texts for part in drawing.texts(each)],
    )
    labelled = {each.label: each for each in series if each.label}
    legend = [(text, each.key, _sample(each)) for text, each in labelled.items()]
    below = 42 if axes[0].label else 26
    return Chart(title, width, _TOP + height + below * framed, layers, legend, wide)


class _Drawing(NamedTuple):
    x: Axis | Categories
    y: Axis | Categories
    left: float
    right: float
    height: float

    def across(self, x: float | str) -> float:
        return round(self.left + self.x.place(x) * (self.right - self.left), 1)

    def down(self, y: float | str) -> float:
        return round(_TOP + (1 - self.y.place(y)) * self.height, 1)

    def axes(self) -> Iterator[Element]:
        bottom = _TOP + self.height
        for tick in self.y.ticks():
            y = round(bottom - tick.place * self.height, 1)
            if isinstance(self.y, Axis):
                yield _element("path", "grid", d=f"M{self.left:.1f} {y}H{self.right:.1f}")
            text = shortened(tick.text, _LONGEST)
            yield _element("text", "tick end", text=text, x=round(self.left - 7, 1), y=y + 4)
        for tick in spaced_ticks(self.x.ticks(), self.right - self.left):
            x = round(self.left + tick.place * (self.right - self.left), 1)
            if isinstance(self.x, Axis):
                yield _element("path", "grid", d=f"M{x} {_TOP}V{bottom}")
            text = shortened(tick.text, 12 if isinstance(self.x, Categories) else _LONGEST)
            edge = x + width_of(text) / 2 > self.right + 13
            place, style = (self.right + 13, "tick end") if edge else (x, "tick middle")
            yield _element("text", style, text=text, x=place, y=bottom + 17)
        yield _element("path", "axis", d=f"M{self.left:.1f} {bottom}H{self.right:.1f}")
        middle = round((self.left + self.right) / 2, 1)
        yield _element("text", "middle", text=self.x.label, x=middle, y=bottom + 35)

    def series(self, series: Series) -> Iterator[Element]:
        if series.kind in ("line", "steps", "band") and series.points:
            yield from self.line(series)
            return
        lanes = len(self.y.values) if isinstance(self.y, Categories) else 20
        thick = round(0.7 * min(self.height / lanes, 26.0), 1)
        for x, y, text, key, own, end in series.points:
            left, middle, style = self.across(x), self.down(y), own or series.style
            if series.kind == "dots":
                yield _dot(left, middle, style, text, key)
            elif series.kind == "rules":
                yield _element("path", "rule", text, d=f"M{left} {_TOP}v{self.height}")
            elif series.kind == "ranges":
                width = round(max(self.across(end) - left, 1.0), 1)
                place = {"x": left, "y": round(middle - thick / 2, 1), "width": width}
                yield _element("rect", f"bar {style}", text, key, "", **place, height=thick, rx=1.5)
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

    def texts(self, series: Series) -> Iterator[Element]:
        for each in series.points:
            line = shortened(each.text, int(each.end) or 48)
            x, y, tooltip = self.across(each.x) + 5, self.down(each.y) + 4, each.text
            yield _element("text", series.style, tooltip * (line != tooltip), text=line, x=x, y=y)


def _element(
    tag: str, style: str, tooltip: str = "", key: str | None = None, text: str = "", **place: Any
) -> Element:
    return Element(tag, {"class": style.strip(), **place, "data-key": key}, tooltip, text)


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

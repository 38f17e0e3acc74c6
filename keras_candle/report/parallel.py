"""Parallel coordinates: a line for each trial through its hyperparameters to its objective."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from keras_candle.report.axes import Axis, Categories
from keras_candle.report.best_so_far import axis_of
from keras_candle.report.importance import by_importance
from keras_candle.report.layout import card
from keras_candle.report.markup import Markup, element, joined, shortened
from keras_candle.report.scales import place_of, scale_of, value_text
from keras_candle.report.trials import ReportedTrial, Search

_WIDTH, _HEIGHT, _TOP, _SIDE = 1148.0, 300.0, 64.0, 70.0
# The distance below an axis at which lines of trials without its hyperparameter pass.
_NOT_ACTIVE = 24.0
_MOST_AXES = 12


@dataclass(frozen=True)
class _Upright:
    """A vertical axis.

    Attributes:
        name: the hyperparameter's; None for the objective.
    """

    x: float
    name: str | None
    label: str
    scale: Axis | Categories

    def y(self, trial: ReportedTrial) -> float:
        if self.name is None:
            return self._at(trial.objective)
        if self.name not in trial.values:
            return _HEIGHT + _NOT_ACTIVE
        return self._at(trial.values[self.name])

    def _at(self, value: Any) -> float:
        place = self.scale.place(place_of(self.scale, value))  # type: ignore[arg-type]
        return (1 - place) * _HEIGHT


def parallel(search: Search) -> Markup:
    """Return the parallel coordinates chart; nothing for fewer than two trials with a result.

    The axes are sorted by importance; the most important one is next to the objective.
    """
    whole = [each for each in search.completed if each.name in search.drawn]
    chosen = [
        each
        for each in by_importance(search)
        if len({value_text(trial.values.get(each.name)) for trial in whole}) > 1
    ]
    shown = list(reversed(chosen[:_MOST_AXES]))
    if len(whole) < 2 or not shown:
        return Markup("")
    gap = (_WIDTH - 2 * _SIDE - 40) / len(shown)
    axes = [
        _Upright(_SIDE + place * gap, each.name, each.name,
                 scale_of(each, [t.values[each.name] for t in whole if each.name in t.values]))
        for place, each in enumerate(shown)
    ]  # fmt: skip
    axes.append(
        _Upright(_SIDE + len(shown) * gap, None, search.objectives[0].name, axis_of(search))
    )
    title = "parallel coordinates, the most important next to the objective"
    if len(chosen) > _MOST_AXES:
        title += f"; {len(chosen) - _MOST_AXES} hyperparameters are left out"
    return card(_svg(title, _lines(search, whole, axes), axes, gap))


def _svg(title: str, lines: Markup, axes: list[_Upright], gap: float) -> Markup:
    inactive = None
    if f" {_HEIGHT + _NOT_ACTIVE:.1f}" in lines:
        place = _HEIGHT + _NOT_ACTIVE + 4
        inactive = element("text", "not active", x=_SIDE - 8, y=place, class_="end halo")
    frame = element(
        "g",
        element("g", lines, class_="parallel"),
        inactive,
        *[_drawn(each, gap, low=place % 2 == 1) for place, each in enumerate(axes)],
        transform=f"translate(0,{_TOP:.0f})",
    )
    return element(
        "svg",
        element("text", title, x=2, y=14, class_="heading"),
        frame,
        viewBox=f"0 0 {_WIDTH:.0f} {_TOP + _HEIGHT + _NOT_ACTIVE + 14:.0f}",
        class_="chart",
        role="img",
        aria_label=title,
    )


def _lines(search: Search, whole: list[ReportedTrial], axes: list[_Upright]) -> Markup:
    """The trials' lines, the worst first, so that the best are on top."""
    quality, parts = search.quality, []
    for trial in reversed(whole):
        points = "L".join(f"{axis.x:.0f} {axis.y(trial):.1f}" for axis in axes)
        style = "best" if trial is whole[0] else f"thin {quality[trial.name]}"
        values = [f"{name} {value_text(value)}" for name, value in trial.values.items()]
        tooltip = element("title", "\n".join([search.describe(trial), *values[:20]]))
        parts.append(
            element(
                "path", tooltip, d=f"M{points}", class_=f"line {style}", data_key=search.key(trial)
            )
        )
    return joined(*parts)


def _drawn(axis: _Upright, gap: float, *, low: bool) -> Markup:
    """An axis with its name; every second name is lower, so that they don't touch."""
    letters = int(2 * gap / 7.4) - 1
    name = element(
        "text",
        element("title", axis.label),
        shortened(axis.label, max(letters, 4)),
        x=axis.x,
        y=-12 if low else -28,
        class_="upright middle",
    )
    line = element("path", d=f"M{axis.x:.1f} 0V{_HEIGHT:.0f}", class_="axis")
    ticks = []
    for tick in axis.scale.ticks(5) if isinstance(axis.scale, Axis) else axis.scale.ticks():
        y = (1 - tick.place) * _HEIGHT
        text = shortened(tick.text, max(int((gap - 12) / 6.6), 4))
        ticks.append(element("path", d=f"M{axis.x:.1f} {y:.1f}h4", class_="axis"))
        ticks.append(element("text", text, x=axis.x + 7, y=y + 4, class_="halo"))
    return element("g", line, name, *ticks)

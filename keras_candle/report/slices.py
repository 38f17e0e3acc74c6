"""Charts of the objective by each hyperparameter's values."""

from __future__ import annotations

from keras_candle.report.axes import Axis, Categories
from keras_candle.report.best_so_far import axis_of
from keras_candle.report.chart import Chart
from keras_candle.report.importance import by_importance
from keras_candle.report.layout import card, grid, subsection
from keras_candle.report.markup import Markup
from keras_candle.report.scales import place_of, scale_of, value_text
from keras_candle.report.trials import Parameter, Search

_MOST = 8
_GOLDEN = 0.6180339887


def slices(search: Search) -> Markup:
    """Return a chart for each of the most important hyperparameters."""
    cards = [card(_chart(search, each)) for each in by_importance(search)[:_MOST]]
    left_out = len(search.parameters) - _MOST
    more = f"; {left_out} more are in the table" if left_out > 0 else ""
    return subsection(
        "Objective by hyperparameter",
        grid(*cards),
        lead=f"The most important first{more}.",
    )


def _chart(search: Search, parameter: Parameter) -> Markup | None:
    name, quality = parameter.name, search.quality
    shown = [each for each in search.completed if each.name in search.drawn]
    shown = [each for each in shown if name in each.values]
    if len({value_text(each.values[name]) for each in shown}) < 2:
        return None
    scale = scale_of(parameter, [each.values[name] for each in shown])
    chart = Chart(f"{search.objectives[0].name} by {name}", scale, axis_of(search), height=170)
    chart.dots(
        (
            _beside(scale, place_of(scale, each.values[name]), number),
            each.objective or 0.0,
            quality[each.name],
            f"{search.describe(each)}\n{name} {value_text(each.values[name])}",
            search.key(each),
        )
        for number, each in enumerate(reversed(shown))
    )
    return chart.svg()


def _beside(scale: Axis | Categories, place: float | str, number: int) -> float | str:
    """Spread the trials of one category sideways, the same way each time."""
    if isinstance(scale, Axis) or not isinstance(place, str):
        return place
    return scale.values.index(place) + 0.4 * (number * _GOLDEN % 1.0 - 0.5)

"""The chart of the hyperparameters' importance."""

from __future__ import annotations

from keras_candle.report.axes import Axis, Categories
from keras_candle.report.chart import Chart
from keras_candle.report.legend import LegendEntry
from keras_candle.report.markup import Markup
from keras_candle.report.quantities import percent
from keras_candle.report.trials import INTERACTIONS, Parameter, Search

_MOST = 16


def by_importance(search: Search) -> list[Parameter]:
    """Return the hyperparameters by importance, the highest first; Keras Tuner's own last."""
    names = [each.name for each in search.parameters]
    return sorted(
        search.parameters,
        key=lambda each: (
            each.name.startswith("tuner/"),
            -search.importance.get(each.name, 0.0),
            names.index(each.name),
        ),
    )


def importance_chart(search: Search) -> Markup | None:
    """Return a chart with a bar for each hyperparameter; None with too few trials."""
    parts = search.importance
    shown = list(parts.items())[:_MOST]
    if not shown:
        return None
    lanes = Categories(tuple(name for name, _ in reversed(shown)))
    high = max(part for _, part in shown) or 1.0
    axis = Axis(0.0, high * 1.12, label="% of the variance", unit=0.01)
    chart = Chart("importance of hyperparameters", axis, lanes, height=max(60.0, 24.0 * len(shown)))
    for name, part in shown:
        style = "c7 faint" if name == INTERACTIONS else "c0"
        chart.bar((0.0, part), name, style, f"{name}: {percent(part, 1)}")
        chart.annotate(part, name, percent(part))
    method = "a forest's main effects" if search.from_forest else "each alone, by ranks"
    chart.legend = [LegendEntry(method, "c0", shape="bar")]
    if INTERACTIONS in parts:
        chart.legend.append(LegendEntry("interactions", "c7 faint", shape="bar"))
    return chart.svg()

"""Charts of quality against cost, with the Pareto front."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from keras_candle.report.axes import fitted, without_outliers
from keras_candle.report.chart import Chart
from keras_candle.report.layout import card, grid, subsection
from keras_candle.report.legend import LegendEntry
from keras_candle.report.markup import Markup
from keras_candle.report.quantities import exact
from keras_candle.report.trials import ReportedTrial, Search

Value = Callable[[ReportedTrial], float | None]
_MEASURES = ("device_seconds", "parameters", "prediction_latency_s", "peak_memory_bytes")
_MOST = 4


def fronts(search: Search) -> Markup:
    """Return a chart for each measured cost, and for each objective after the first."""
    cards = [card(_chart(search, *each)) for each in _costs(search)[:_MOST]]
    return subsection(
        "Quality against cost",
        grid(*cards),
        lead="The line is the Pareto front: no other trial is at least as good in both values and "
        "better in one.",
    )


def front_of(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of the points on the Pareto front of a minimisation, by the first value.

    Example:
        >>> front_of([(1.0, 5.0), (2.0, 6.0), (3.0, 1.0), (3.0, 2.0)])
        [0, 2]
    """
    best, found = float("inf"), []
    for place in sorted(range(len(points)), key=lambda each: points[each]):
        if points[place][1] < best:
            best = points[place][1]
            found.append(place)
    return found


def _costs(search: Search) -> list[tuple[str, Value, int]]:
    """Name, value and sign of each cost or objective to show the first objective against."""

    def objective(place: int) -> Value:
        return lambda trial: trial.objectives[place]

    def measured(name: str) -> Value:
        return lambda trial: trial.measured.get(name)

    asked = [
        (each.name, objective(place), each.sign())
        for place, each in enumerate(search.objectives)
        if place
    ]
    known = {each.name for each in search.objectives}
    names = [each for each in _MEASURES if each not in known]
    found = [*asked, *[(name, measured(name), 1) for name in names if name != search.cost]]
    if search.cost not in known:
        own: Value = lambda trial: trial.cost  # noqa: E731
        found.insert(len(asked), (search.cost, own, 1))
    return [each for each in found if len({each[1](trial) for trial in search.completed}) > 1]


def _chart(search: Search, name: str, value: Value, sign: int) -> Markup | None:
    shown = [(each, found) for each in search.completed if (found := value(each)) is not None]
    if len(shown) < 2:
        return None
    objective, quality = search.objectives[0], search.quality
    values = [each.objective or 0.0 for each, _ in shown]
    costs = [found for _, found in shown]
    chart = Chart(
        f"{objective.name} against {name}",
        fitted(costs, name),
        fitted(without_outliers(values, objective.sign())),
    )
    front = front_of([(sign * c, objective.sign() * v) for c, v in zip(costs, values, strict=True)])
    words = [f"{search.describe(each)}\n{name} {exact(found)}" for each, found in shown]
    chart.line([(costs[i], values[i], words[i]) for i in front], "c2", steps=True)
    on_front = set(front)
    chart.dots(
        (cost, each.objective or 0.0, "c2" if place in on_front else f"hollow {quality[each.name]}",
         words[place], search.key(each))
        for place, (each, cost) in enumerate(shown)
        if place in on_front or each.name in search.drawn
    )  # fmt: skip
    chart.legend = [
        LegendEntry(f"on the front ({len(front)})", "c2", shape="dot"),
        LegendEntry("dominated", "hollow q2", shape="dot"),
    ]
    return chart.svg()

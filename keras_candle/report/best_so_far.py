"""Charts of a search's best objective so far, over trials and over time."""

from __future__ import annotations

from collections.abc import Callable

from keras_candle.report.axes import Axis, counting, fitted, of_time, without_outliers
from keras_candle.report.chart import Chart
from keras_candle.report.layout import card, grid
from keras_candle.report.legend import LegendEntry
from keras_candle.report.markup import Markup
from keras_candle.report.quantities import duration, exact
from keras_candle.report.trials import ReportedTrial, Search


def best_so_far(search: Search) -> Markup:
    """Return the charts of each trial's objective and the best so far."""
    ended = search.ended
    if not any(each.objective is not None for each in ended):
        return Markup("")
    numbers = {each.name: float(place) for place, each in enumerate(ended, 1)}
    over_trials = _chart(
        search,
        ended,
        counting(len(ended), "trials that have ended"),
        lambda each: numbers[each.name],
    )
    timed = [each for each in ended if each.ended_s is not None]
    first_s = search.first_s
    over_time = None
    if first_s is not None and any(each.objective is not None for each in timed):

        def passed_s(trial: ReportedTrial) -> float:
            return (trial.ended_s or first_s or 0.0) - (first_s or 0.0)

        axis = of_time(map(passed_s, timed), "time since the first trial")
        over_time = card(_chart(search, timed, axis, passed_s))
    return grid(card(over_trials), over_time)


def quality_entries() -> list[LegendEntry]:
    """Return the legend entries of the trials' colours."""
    return [
        LegendEntry("a good trial", "q0", shape="dot"),
        LegendEntry("a bad one", "q6", shape="dot"),
    ]


def axis_of(search: Search) -> Axis:
    """Return an axis of the first objective; outliers are drawn at its end."""
    values = [each.objective for each in search.completed if each.objective is not None]
    return fitted(without_outliers(values, search.objectives[0].sign()))


def _chart(
    search: Search, ended: list[ReportedTrial], x: Axis, where: Callable[[ReportedTrial], float]
) -> Markup:
    objective, quality, y = search.objectives[0], search.quality, axis_of(search)
    over = "over time" if x.label.startswith("time") else "over trials"
    chart = Chart(f"{objective.name}, best so far {over}", x, y)
    worst = y.high if objective.smaller_is_better else y.low
    chart.dots(
        (
            where(each),
            worst if each.objective is None else each.objective,
            quality[each.name],
            f"{search.describe(each)}\n{_when(search, each)}",
            search.key(each),
        )
        for each in ended
        if each.name in search.drawn
    )
    line = _line(search, ended, where)
    if line:
        # Extend the line to the last trial.
        line.append((where(ended[-1]), line[-1][1], line[-1][2]))
    chart.line(line, "best", steps=True)
    chart.legend = [LegendEntry("best so far", "best"), *quality_entries()]
    if any(each.objective is None for each in ended):
        chart.legend.append(LegendEntry("failed", "failed", shape="dot"))
    return chart.svg()


def _line(
    search: Search, ended: list[ReportedTrial], where: Callable[[ReportedTrial], float]
) -> list[tuple[float, float, str]]:
    sign, best, points = search.objectives[0].sign(), float("inf"), []
    # As in the search: trials above max_cost count only while none keeps it.
    any_kept = not all(map(search.exceeds_max_cost, search.completed))
    for each in ended:
        if any_kept and search.exceeds_max_cost(each):
            continue
        if each.objective is not None and sign * each.objective < best:
            best = sign * each.objective
            tooltip = f"new best {exact(each.objective)}\ntrial {each.name}, {_when(search, each)}"
            points.append((where(each), each.objective, tooltip))
    return points


def _when(search: Search, trial: ReportedTrial) -> str:
    if trial.ended_s is None or search.first_s is None:
        return "at an unknown time"
    return f"after {duration(trial.ended_s - search.first_s)}"

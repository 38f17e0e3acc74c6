"""How the best result of a search came about, over trials and over time."""

from __future__ import annotations

from collections.abc import Callable

from keras_candle.report.axes import Axis, counting, fenced, fitted, of_time
from keras_candle.report.chart import Chart
from keras_candle.report.layout import card, grid
from keras_candle.report.legend import LegendEntry
from keras_candle.report.markup import Markup
from keras_candle.report.quantities import duration, exact
from keras_candle.report.trials import ReportedTrial, Search


def best_so_far(search: Search) -> Markup:
    """Every trial's objective, and the best one until then."""
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
    """What the colours of trials mean."""
    return [
        LegendEntry("a good trial", "q0", shape="dot"),
        LegendEntry("a bad one", "q6", shape="dot"),
    ]


def axis_of(search: Search) -> Axis:
    """On which objectives have room; those far worse than most lie at its end."""
    values = [each.objective for each in search.completed if each.objective is not None]
    return fitted(fenced(values, search.objectives[0].sign()))


def _chart(
    search: Search, ended: list[ReportedTrial], x: Axis, where: Callable[[ReportedTrial], float]
) -> Markup:
    objective, quality, y = search.objectives[0], search.quality, axis_of(search)
    what = "over time" if x.label.startswith("time") else "over trials"
    chart = Chart(f"{objective.name}, best so far {what}", x, y)
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
        # The best holds until the last trial.
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
    # As the search does it: those above the limit count where none keeps it.
    any_kept = not all(map(search.is_dear, search.completed))
    for each in ended:
        if any_kept and search.is_dear(each):
            continue
        if each.objective is not None and sign * each.objective < best:
            best = sign * each.objective
            told = f"new best {exact(each.objective)}\ntrial {each.name}, {_when(search, each)}"
            points.append((where(each), each.objective, told))
    return points


def _when(search: Search, trial: ReportedTrial) -> str:
    if trial.ended_s is None or search.first_s is None:
        return "at a time that is not told"
    return f"after {duration(trial.ended_s - search.first_s)}"

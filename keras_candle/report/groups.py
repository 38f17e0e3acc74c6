"""The chart of groups of ranks: their trials over time, and how busy each group was."""

from __future__ import annotations

from collections import defaultdict

from keras_candle.report.axes import Categories, of_time
from keras_candle.report.chart import Chart
from keras_candle.report.layout import card, subsection
from keras_candle.report.markup import Markup
from keras_candle.report.quantities import counted, duration, moment, percent
from keras_candle.report.trials import ReportedTrial, Search

_MOST_GROUPS = 64


def groups(search: Search) -> Markup:
    """Return a chart with a lane for each group; nothing without the trials' times."""
    lanes: dict[int, list[ReportedTrial]] = defaultdict(list)
    for each in search.trials:
        if each.started_s is not None and each.group is not None:
            lanes[each.group].append(each)
    if not lanes or search.first_s is None:
        return Markup("")
    shown = dict(sorted(lanes.items())[:_MOST_GROUPS])
    left_out = len(lanes) - len(shown)
    hosts = {each.host for each in search.trials if each.host}
    where = f"{counted(len(lanes), 'group')} on {counted(len(hosts), 'host')}. " if hosts else ""
    more = f" {left_out} more groups are left out." if left_out else ""
    return subsection(
        "Trials over time",
        card(_chart(search, shown, search.first_s)),
        lead=f"{where}A bar is a trial, a lane is a group of ranks, with the part of the time in "
        f"which it ran one.{more}",
    )


def _chart(search: Search, lanes: dict[int, list[ReportedTrial]], first_s: float) -> Markup:
    last_s = max(each.ended_s or each.started_s or first_s
                 for trials in lanes.values() for each in trials)  # fmt: skip
    names = {
        group: f"group {group}, {percent(_busy_s(trials) / max(last_s - first_s, 1e-9))}"
        for group, trials in lanes.items()
    }
    chart = Chart(
        "trials of each group",
        of_time([last_s - first_s], "time since the first trial"),
        Categories(tuple(reversed(names.values()))),
        width=1148,
        height=max(40.0, 22.0 * len(names)),
    )
    quality = search.quality
    for group, trials in lanes.items():
        for each in (each for each in trials if each.name in search.drawn):
            begin = (each.started_s or first_s) - first_s
            ended = max((each.ended_s or last_s) - first_s, begin)
            took = duration(ended - begin) if each.ended_s else f"since {moment(begin + first_s)}"
            style = quality.get(each.name, "c7 faint")
            tooltip = f"{search.describe(each)}\n{took}"
            chart.bar((begin, ended), names[group], style, tooltip, search.key(each))
    return chart.svg()


def _busy_s(trials: list[ReportedTrial]) -> float:
    return sum((each.ended_s or 0.0) - (each.started_s or 0.0) for each in trials if each.ended_s)

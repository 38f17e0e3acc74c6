"""The time line of runs: attempts, restarts, checkpoints, stop requests and stalls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from keras_candle.report.axes import Categories, of_time
from keras_candle.report.chart import Chart
from keras_candle.report.layout import (
    Cell,
    LayoutRow,
    card,
    number_cell,
    subsection,
    table,
    text_cell,
)
from keras_candle.report.legend import MARKERS, LegendEntry
from keras_candle.report.markup import Markup, joined
from keras_candle.report.quantities import duration, moment
from keras_candle.report.run import ReportedRun

_WORDS = {
    "checkpoint": "checkpoint",
    "stop": "stop request",
    "stall": "stall",
    "resume": "restart",
    "other": "other",
}
_MOST_MARKERS = 300


def timeline(runs: Sequence[ReportedRun]) -> Markup:
    """Return a chart with a lane for each run, and a table of the attempts after a restart.

    Args:
        runs: each with its colour.
    """
    shown = [run for run in runs if run.attempts]
    if not shown:
        return Markup("")
    return subsection(
        "Time line",
        card(_chart(shown)),
        _attempts(shown) if any(run.restarts for run in shown) else None,
        lead="From each run's first journal line. A bar is an attempt, that is one start of its "
        "processes; in a gap no process ran.",
    )


def _chart(runs: Sequence[ReportedRun]) -> Markup:
    ends = [run.attempts[-1].ended_s - run.attempts[0].began_s for run in runs]
    lanes = Categories(tuple(run.name for run in reversed(runs)))
    chart = Chart("", of_time(ends, "time since the start"), lanes, width=1148.0,
                  height=max(46.0, 34.0 * len(runs)))  # fmt: skip
    kinds: Counter[str] = Counter()
    left_out = sum(_draw(chart, run, kinds) for run in runs)
    chart.legend = [
        LegendEntry(_WORDS[kind], "", shape=kind)
        for kind in (*MARKERS,)
        if kinds[kind] and kind in _WORDS
    ]
    title = f"attempts and events; {left_out} checkpoints are not drawn"
    chart.title = title if left_out else "attempts and events"
    return chart.svg()


def _draw(chart: Chart, run: ReportedRun, kinds: Counter[str]) -> int:
    """Draw one lane; return the number of checkpoints that were left out."""
    origin_s = run.attempts[0].began_s
    for number, attempt in enumerate(run.attempts):
        span = (attempt.began_s - origin_s, attempt.ended_s - origin_s)
        ranks = f" on {attempt.ranks} ranks" if attempt.ranks else ""
        hosts = f"\n{', '.join(attempt.hosts[:6])}" if attempt.hosts else ""
        tooltip = (
            f"{run.name}\nattempt {number + 1}{ranks}, from step {attempt.step}\n"
            f"{moment(attempt.began_s)}"
            f", {duration(span[1] - span[0])}\n{attempt.end or 'no end recorded'}{hosts}"
        )
        chart.bar(span, run.name, f"{run.colour} faint", tooltip, run.key)
        if number:
            kinds["resume"] += 1
            chart.marker(span[0], run.name, "resume", tooltip)
    checkpoints = [each for each in run.events if each.kind == "checkpoint"]
    every = -(-len(checkpoints) // _MOST_MARKERS) or 1
    events = [each for each in run.events if each.kind != "checkpoint"]
    for mark in [*checkpoints[::every], *events[-_MOST_MARKERS:]]:
        kind = mark.kind if mark.kind in _WORDS else "other"
        kinds[kind] += 1
        chart.marker(mark.time_s - origin_s, run.name, kind, f"{mark.text}\n{moment(mark.time_s)}")
    return len(checkpoints) - len(checkpoints[::every])


def _attempts(runs: Sequence[ReportedRun]) -> Markup:
    head = ("run", "attempt", "began", "ran for", "ranks", "hosts", "from step", "end")
    rows = [
        LayoutRow(
            [
                text_cell(run.name),
                number_cell(number + 1),
                Cell(moment(attempt.began_s), attempt.began_s),
                number_cell(
                    attempt.ended_s - attempt.began_s, duration(attempt.ended_s - attempt.began_s)
                ),
                number_cell(attempt.ranks),
                text_cell(", ".join(attempt.hosts)),
                number_cell(attempt.step, str(attempt.step)),
                text_cell(attempt.end or "no end recorded", 80),
            ],
            run.key,
        )
        for run in runs
        for number, attempt in enumerate(run.attempts)
    ]
    return joined(table(head, rows, sortable=True))

"""When the processes of runs ran, and what happened then: restarts, checkpoints, stops, stalls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from keras_candle.report.axes import Categories, of_time
from keras_candle.report.chart import Chart
from keras_candle.report.layout import Cell, LayoutRow, card, of_number, of_text, part, table
from keras_candle.report.legend import SIGNS, LegendEntry
from keras_candle.report.markup import Markup, joined
from keras_candle.report.quantities import duration, moment
from keras_candle.report.run import ReportedRun

_WORDS = {
    "checkpoint": "checkpoint",
    "stop": "asked to stop",
    "stall": "stall",
    "resume": "restart",
    "other": "other",
}
_MOST_SIGNS = 300


def timeline(runs: Sequence[ReportedRun]) -> Markup:
    """A lane for each run, and a table of the starts where there was more than one.

    Args:
        runs: each with its colour.
    """
    told = [run for run in runs if run.starts]
    if not told:
        return Markup("")
    return part(
        "Time line",
        card(_chart(told)),
        _starts(told) if any(run.restarts for run in told) else None,
        lead="From each run's first sign of life. A bar is a start of its processes, a gap is time "
        "in which none ran.",
    )


def _chart(runs: Sequence[ReportedRun]) -> Markup:
    ends = [run.starts[-1].ended_s - run.starts[0].began_s for run in runs]
    lanes = Categories(tuple(run.name for run in reversed(runs)))
    chart = Chart("", of_time(ends, "time since the first sign"), lanes, width=1148.0,
                  height=max(46.0, 34.0 * len(runs)))  # fmt: skip
    kinds: Counter[str] = Counter()
    left_out = sum(_draw(chart, run, kinds) for run in runs)
    chart.legend = [
        LegendEntry(_WORDS[kind], "", shape=kind)
        for kind in (*SIGNS,)
        if kinds[kind] and kind in _WORDS
    ]
    told = f"starts and what happened; {left_out} checkpoints are not drawn"
    chart.title = told if left_out else "starts of the processes and what happened"
    return chart.svg()


def _draw(chart: Chart, run: ReportedRun, kinds: Counter[str]) -> int:
    """One lane. Returns how many checkpoints found no place in it."""
    origin_s = run.starts[0].began_s
    for number, start in enumerate(run.starts):
        span = (start.began_s - origin_s, start.ended_s - origin_s)
        ranks = f" on {start.ranks} ranks" if start.ranks else ""
        hosts = f"\n{', '.join(start.hosts[:6])}" if start.hosts else ""
        told = (
            f"{run.name}\nstart {number + 1}{ranks}, from step {start.step}\n"
            f"{moment(start.began_s)}"
            f", {duration(span[1] - span[0])}\n{start.end or 'no end recorded'}{hosts}"
        )
        chart.bar(span, run.name, f"{run.colour} faint", told, run.key)
        if number:
            kinds["resume"] += 1
            chart.sign(span[0], run.name, "resume", told)
    checkpoints = [each for each in run.marks if each.kind == "checkpoint"]
    every = -(-len(checkpoints) // _MOST_SIGNS) or 1
    others = [each for each in run.marks if each.kind != "checkpoint"]
    for mark in [*checkpoints[::every], *others[-_MOST_SIGNS:]]:
        kind = mark.kind if mark.kind in _WORDS else "other"
        kinds[kind] += 1
        chart.sign(mark.time_s - origin_s, run.name, kind, f"{mark.text}\n{moment(mark.time_s)}")
    return len(checkpoints) - len(checkpoints[::every])


def _starts(runs: Sequence[ReportedRun]) -> Markup:
    head = ("run", "start", "began", "ran for", "ranks", "hosts", "from step", "end")
    rows = [
        LayoutRow(
            [
                of_text(run.name),
                of_number(number + 1),
                Cell(moment(start.began_s), start.began_s),
                of_number(start.ended_s - start.began_s, duration(start.ended_s - start.began_s)),
                of_number(start.ranks),
                of_text(", ".join(start.hosts)),
                of_number(start.step, str(start.step)),
                of_text(start.end or "no end recorded", 80),
            ],
            run.key,
        )
        for run in runs
        for number, start in enumerate(run.starts)
    ]
    return joined(table(head, rows, sortable=True))

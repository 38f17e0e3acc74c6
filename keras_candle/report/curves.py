"""Charts of runs' metrics, by epoch and over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from keras_candle.report.axes import Axis, counting, fitted, of_time, without_outliers
from keras_candle.report.chart import Chart
from keras_candle.report.layout import card, grid, subsection, views
from keras_candle.report.legend import LegendEntry
from keras_candle.report.markup import Markup
from keras_candle.report.overview import entries_of
from keras_candle.report.quantities import duration, exact
from keras_candle.report.run import Epoch, ReportedRun

_VALIDATION = "val_"
_MOST = 24
# The metrics that are shown first, and last.
_FIRST, _LAST = ("loss", "accuracy"), ("learning_rate", "lr", "effective_learning_rate")


def curves(runs: Sequence[ReportedRun]) -> Markup:
    """Return a chart for each metric together with its validation metric.

    Args:
        runs: each with its colour.
    """
    names = _metrics(runs)
    if not names:
        return Markup("")
    left_out = f" {len(names) - _MOST} more metrics are left out." if len(names) > _MOST else ""
    by_epoch, by_time = (
        grid(*[card(_chart(runs, name, over_time=over_time)) for name in names[:_MOST]])
        for over_time in (False, True)
    )
    return subsection(
        "Curves",
        views(by_epoch=by_epoch, by_time=by_time),
        lead="Solid: validation, or the only curve. Dashed: training. A star is the best epoch. "
        "Epochs that were trained again after a restart are shown once, as last trained."
        + left_out,
    )


def _metrics(runs: Sequence[ReportedRun]) -> list[str]:
    found = dict.fromkeys(name.removeprefix(_VALIDATION) for run in runs for name in run.metrics)

    def place(name: str) -> tuple[int, int]:
        return (_FIRST.index(name) if name in _FIRST else len(_FIRST), name in _LAST)

    return sorted(found, key=place)


def _chart(runs: Sequence[ReportedRun], name: str, *, over_time: bool) -> Markup:
    of_name = (name, _VALIDATION + name)
    values = [
        epoch.values[each]
        for run in runs
        for each in of_name
        for epoch in run.epochs
        if each in epoch.values
    ]
    where: Callable[[Epoch], float]
    if over_time:
        where = lambda epoch: epoch.active_s  # noqa: E731
        x = of_time([each.active_s for run in runs for each in run.epochs], "running time")
    else:
        where = lambda epoch: float(epoch.number)  # noqa: E731
        x = counting(max((e.number for run in runs for e in run.epochs), default=1), "epoch")
    sign = 1 if all(run.smaller_is_better(name) for run in runs) else -1
    chart = Chart(name, x, _y(values, sign))
    for run in runs:
        _draw(chart, run, name, where, alone=len(runs) == 1)
    shown = [run for run in runs if {name, _VALIDATION + name} & set(run.metrics)]
    chart.legend = entries_of(shown) if len(runs) > 1 else []
    if len(runs) == 1 and _VALIDATION + name in runs[0].metrics:
        chart.legend = [LegendEntry(name, "c0 train"), LegendEntry(_VALIDATION + name, "c1")]
    return chart.svg()


def _y(values: Sequence[float], sign: int) -> Axis:
    """The axis of a metric; outliers are drawn at its edge."""
    return fitted(without_outliers(values, sign) if min(values) <= 0 else values)


def _draw(
    chart: Chart, run: ReportedRun, name: str, where: Callable[[Epoch], float], *, alone: bool
) -> None:
    validated = _VALIDATION + name in run.metrics
    for metric in (name, _VALIDATION + name):
        is_training = metric == name and validated
        colour = run.colour if not alone else "c0" if metric == name else "c1"
        points = [
            (where(epoch), epoch.values[metric], _described(run, metric, epoch))
            for epoch in run.epochs
            if metric in epoch.values
        ]
        key = None if alone else run.key
        chart.line(points, f"{colour} train" if is_training else colour, key)
    for number, attempt in enumerate(run.attempts[1:] if alone else [], 1):
        first = next((each for each in run.epochs if each.attempt >= number), None)
        if first is not None:
            chart.rule(where(first), f"first epoch after a restart at step {attempt.step}")
    best = run.best(run.monitor) if run.monitor in (name, _VALIDATION + name) else None
    if best is not None and run.monitor:
        tooltip = f"best: {_described(run, run.monitor, best)}"
        chart.marker(where(best), best.values[run.monitor], "best", tooltip)


def _described(run: ReportedRun, metric: str, epoch: Epoch) -> str:
    return (
        f"{run.name}\n{metric} {exact(epoch.values[metric])}\n"
        f"epoch {epoch.number}, step {epoch.step}, {duration(epoch.active_s)}"
    )

"""The overview of runs: tiles for one run, a table for several."""

from __future__ import annotations

from collections.abc import Sequence

from keras_candle.report.layout import (
    NOTHING,
    Cell,
    LayoutRow,
    number_cell,
    table,
    text_cell,
    tiles,
)
from keras_candle.report.legend import LegendEntry
from keras_candle.report.markup import Markup, element, joined
from keras_candle.report.quantities import counted, duration, short
from keras_candle.report.run import ReportedRun

_MOST_NAMED = 12


def entries_of(runs: Sequence[ReportedRun]) -> list[LegendEntry]:
    """Return the legend entries of runs."""
    return [LegendEntry(each.name, each.colour, each.key) for each in runs[:_MOST_NAMED]]


def overview(runs: Sequence[ReportedRun]) -> Markup:
    """Return the overview of runs.

    Args:
        runs: in their order.
    """
    return _tiles(runs[0]) if len(runs) == 1 else _table(runs)


def _tiles(run: ReportedRun) -> Markup:
    value, number = _best(run)
    hosts = max((len(each.hosts) for each in run.attempts), default=0)
    speed = run.samples_per_s
    where = f" on {counted(hosts, 'host')}" if hosts else ""
    return tiles(
        (run.state, "state"),
        (short(value), f"best {run.monitor}, epoch {number}") if value is not None else None,
        (len(run.epochs), f"epochs, {run.steps} steps"),
        (duration(run.active_s), "running time"),
        (run.ranks or NOTHING, f"ranks{where}"),
        (short(speed), "samples/s over all ranks") if speed is not None else None,
        (run.restarts, _again(run)),
        (run.checkpoints, f"checkpoints written, {len(run.kept)} kept"),
    )


def _table(runs: Sequence[ReportedRun]) -> Markup:
    head = (
        "run", "state", "ranks", "epochs", "steps", "monitored", "best", "in epoch", "last",
        "running time", "samples/s", "restarts", "checkpoints",
    )  # fmt: skip
    return table(head, [_row(run) for run in runs], sortable=True)


def _row(run: ReportedRun) -> LayoutRow:
    value, number = _best(run)
    name = joined(element("span", class_=f"swatch {run.colour}"), text_cell(run.name).text)
    cells = [
        Cell(name, title=str(run.path)),
        text_cell(run.state, 40),
        number_cell(run.ranks),
        number_cell(len(run.epochs)),
        number_cell(run.steps, str(run.steps)),
        text_cell(run.monitor or NOTHING),
        number_cell(value),
        number_cell(number),
        number_cell(run.last(run.monitor) if run.monitor else None),
        number_cell(run.active_s, duration(run.active_s)),
        number_cell(run.samples_per_s),
        Cell(run.restarts, run.restarts, _again(run), "right"),
        Cell(run.checkpoints, run.checkpoints, f"{len(run.kept)} kept", "right"),
    ]
    return LayoutRow(cells, run.key)


def _again(run: ReportedRun) -> str:
    return f"restarts, {counted(run.repeated, 'epoch')} trained again"


def _best(run: ReportedRun) -> tuple[float | None, int | None]:
    """The best value of the monitored metric, and its epoch."""
    best = run.best(run.monitor) if run.monitor else None
    if best is None or run.monitor is None:
        return None, None
    return best.values[run.monitor], best.number

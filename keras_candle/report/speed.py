"""Charts of runs' throughput, and of the parts of a step's time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_candle.report.axes import Axis, Categories, counting, from_zero
from keras_candle.report.chart import Chart
from keras_candle.report.layout import card, grid, subsection
from keras_candle.report.legend import LegendEntry
from keras_candle.report.markup import Markup
from keras_candle.report.overview import entries_of
from keras_candle.report.quantities import percent, short
from keras_candle.report.reading import number, numbers, table
from keras_candle.report.run import Epoch, ReportedRun
from keras_candle.report.speed_table import speed_table

# The parts of a step's time, in the order in which they are stacked, with their colours.
SHARES = {
    "compute": "c0",
    "communication": "c3",
    "input_wait": "c1",
    "callbacks": "c4",
    "checkpoint": "c5",
}
_REST, _REST_COLOUR = "rest", "c7"


def speed(runs: Sequence[ReportedRun]) -> Markup:
    """Return charts of throughput and of a step's parts, and a table of all further figures.

    Args:
        runs: each with its colour.
    """
    alone = runs[0] if len(runs) == 1 else None
    by_rank = _by_rank(alone) if alone else None
    wide = alone is not None and by_rank is None
    return subsection(
        "Speed",
        grid(
            card(_throughput(runs)),
            card(_split_over_epochs(alone) if alone else None),
            card(by_rank),
            card(_split(runs, wide), wide=wide),
        ),
        speed_table(runs),
        lead=alone.performance.get("verdict") if alone else None,
    )


def _throughput(runs: Sequence[ReportedRun]) -> Markup | None:
    by_samples = any(number(e.performance.get("samples_per_s")) for run in runs for e in run.epochs)
    series = [_samples(run) if by_samples else _steps(run) for run in runs]
    values = [y for points in series for _, y, _ in points]
    if not values:
        return None
    last = max(each.number for run in runs for each in run.epochs)
    title = "samples/s of all ranks" if by_samples else "steps/s, by the journal's times"
    chart = Chart(title, counting(last, "epoch"), from_zero(values))
    for run, points in zip(runs, series, strict=True):
        chart.line(points, run.colour, run.key)
    chart.legend = entries_of(runs) if len(runs) > 1 else []
    return chart.svg()


def _samples(run: ReportedRun) -> list[tuple[float, float, str]]:
    found = [(each, number(each.performance.get("samples_per_s"))) for each in run.epochs]
    return [
        (each.number, rate, f"{run.name}\nepoch {each.number}: {short(rate)} samples/s")
        for each, rate in found
        if rate is not None
    ]


def _steps(run: ReportedRun) -> list[tuple[float, float, str]]:
    """Steps per second from one epoch's end to the next, within one attempt."""
    points = []
    for before, each in zip(run.epochs, run.epochs[1:], strict=False):
        passed_s, taken = each.time_s - before.time_s, each.step - before.step
        if before.attempt == each.attempt and passed_s > 0 and taken > 0:
            rate = taken / passed_s
            tooltip = f"{run.name}\nepoch {each.number}: {short(rate)} steps/s"
            points.append((float(each.number), rate, tooltip))
    return points


def _by_rank(run: ReportedRun) -> Markup | None:
    given = run.performance.get("samples_per_s_by_rank")
    rates = [number(each) for each in given] if isinstance(given, list) else []
    if len(rates) < 2 or None in rates:
        return None
    found = [each or 0.0 for each in rates]
    chart = Chart("samples/s of each rank", counting(len(found) - 1, "rank", 0), from_zero(found))
    chart.dots((n, rate, "c0", f"rank {n}: {short(rate)} samples/s", None)
               for n, rate in enumerate(found))  # fmt: skip
    return chart.svg()


def _split(runs: Sequence[ReportedRun], wide: bool) -> Markup | None:
    all_splits = {run.name: _shares(run.performance) for run in runs}
    splits = {name: shares for name, shares in all_splits.items() if shares}
    if not splits:
        return None
    lanes = Categories(tuple(reversed(splits)))
    whole = max(1.0, *(sum(shares.values()) for shares in splits.values()))
    height = max(34.0, 30.0 * len(splits))
    chart = Chart("where a step's time goes", _percent_axis(whole), lanes, height=height,
                  width=1148.0 if wide else 560.0)  # fmt: skip
    for name, shares in splits.items():
        begin = 0.0
        for share, part_of in shares.items():
            words = f"{name}\n{_named(share)}: {percent(part_of, 1)}"
            chart.bar((begin, begin + part_of), name, _colour(share), words)
            begin += part_of
    chart.legend = _entries(splits.values())
    return chart.svg()


def _split_over_epochs(run: ReportedRun) -> Markup | None:
    by_epoch = [(each, shares) for each in run.epochs if (shares := _shares(each.performance))]
    if len(by_epoch) < 2:
        return None
    names = [each for each in (*SHARES, _REST) if any(each in shares for _, shares in by_epoch)]
    names += [n for _, shares in by_epoch for n in shares if n not in names]
    whole = max(1.0, *(sum(shares.values()) for _, shares in by_epoch))
    chart = Chart("where a step's time goes, epoch by epoch",
                  counting(run.epochs[-1].number, "epoch"), _percent_axis(whole))  # fmt: skip
    below: dict[int, float] = dict.fromkeys((each.number for each, _ in by_epoch), 0.0)
    for name in dict.fromkeys(names):
        chart.area(_band(by_epoch, name, below), _colour(name), _named(name))
    chart.legend = _entries([shares for _, shares in by_epoch])
    return chart.svg()


def _band(
    by_epoch: Sequence[tuple[Epoch, dict[str, float]]], name: str, below: dict[int, float]
) -> list[tuple[float, float, float]]:
    """(epoch, from, to) of a part that is stacked on `below`, which is updated."""
    points = []
    for epoch, shares in by_epoch:
        lower = below[epoch.number]
        below[epoch.number] = lower + shares.get(name, 0.0)
        points.append((float(epoch.number), lower, below[epoch.number]))
    return points


def _shares(performance: dict[str, Any]) -> dict[str, float]:
    given = {n: each for n, each in numbers(table(performance).get("split")).items() if each > 0}
    known = {name: given[name] for name in SHARES if name in given}
    found = {**known, **{name: each for name, each in given.items() if name not in known}}
    rest = 1.0 - sum(found.values())
    return {**found, _REST: rest} if found and rest > 0.005 else found


def _entries(splits: Any) -> list[LegendEntry]:
    names = dict.fromkeys(name for shares in splits for name in shares)
    order = [*SHARES, *names]
    return [LegendEntry(_named(name), _colour(name), shape="bar")
            for name in sorted(names, key=order.index)]  # fmt: skip


def _colour(share: str) -> str:
    return SHARES.get(share, _REST_COLOUR)


def _named(share: str) -> str:
    return share.replace("_", " ")


def _percent_axis(whole: float) -> Axis:
    return Axis(0.0, whole, label="% of the time", unit=0.01)

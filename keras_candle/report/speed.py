"""How fast runs were and where their time went."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_candle.report.axes import Axis, Categories, counting, from_zero
from keras_candle.report.chart import Chart
from keras_candle.report.layout import card, grid, part
from keras_candle.report.legend import LegendEntry
from keras_candle.report.markup import Markup
from keras_candle.report.overview import entries_of
from keras_candle.report.quantities import percent, short
from keras_candle.report.reading import number, numbers, table
from keras_candle.report.run import Epoch, ReportedRun
from keras_candle.report.speed_table import speed_table

# Shares of a step, in the order in which they stand, with their colours.
SHARES = {
    "compute": "c0",
    "communication": "c3",
    "input_wait": "c1",
    "callbacks": "c4",
    "checkpoint": "c5",
}
_REST, _REST_COLOUR = "rest", "c7"


def speed(runs: Sequence[ReportedRun]) -> Markup:
    """Charts of throughput and of the split of a step, and a table of what else was measured.

    Args:
        runs: each with its colour.
    """
    alone = runs[0] if len(runs) == 1 else None
    by_rank = _by_rank(alone) if alone else None
    wide = alone is not None and by_rank is None
    return part(
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
    told = any(number(e.performance.get("samples_per_s")) for run in runs for e in run.epochs)
    series = [_samples(run) if told else _steps(run) for run in runs]
    values = [y for points in series for _, y, _ in points]
    if not values:
        return None
    last = max(each.number for run in runs for each in run.epochs)
    title = "samples/s of all ranks" if told else "steps/s, by the journal's times"
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
    """From one epoch's end to the next one's, where both are of one start."""
    points = []
    for before, each in zip(run.epochs, run.epochs[1:], strict=False):
        passed_s, taken = each.time_s - before.time_s, each.step - before.step
        if before.start == each.start and passed_s > 0 and taken > 0:
            rate = taken / passed_s
            told = f"{run.name}\nepoch {each.number}: {short(rate)} steps/s"
            points.append((float(each.number), rate, told))
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
    splits = {run.name: _shares(run.performance) for run in runs}
    told = {name: shares for name, shares in splits.items() if shares}
    if not told:
        return None
    lanes = Categories(tuple(reversed(told)))
    whole = max(1.0, *(sum(shares.values()) for shares in told.values()))
    height = max(34.0, 30.0 * len(told))
    chart = Chart("where a step's time goes", _percent_axis(whole), lanes, height=height,
                  width=1148.0 if wide else 560.0)  # fmt: skip
    for name, shares in told.items():
        begin = 0.0
        for share, part_of in shares.items():
            words = f"{name}\n{_named(share)}: {percent(part_of, 1)}"
            chart.bar((begin, begin + part_of), name, _colour(share), words)
            begin += part_of
    chart.legend = _entries(told.values())
    return chart.svg()


def _split_over_epochs(run: ReportedRun) -> Markup | None:
    told = [(each, shares) for each in run.epochs if (shares := _shares(each.performance))]
    if len(told) < 2:
        return None
    names = [each for each in (*SHARES, _REST) if any(each in shares for _, shares in told)]
    names += [n for _, shares in told for n in shares if n not in names]
    whole = max(1.0, *(sum(shares.values()) for _, shares in told))
    chart = Chart("where a step's time goes, epoch by epoch",
                  counting(run.epochs[-1].number, "epoch"), _percent_axis(whole))  # fmt: skip
    below: dict[int, float] = dict.fromkeys((each.number for each, _ in told), 0.0)
    for name in dict.fromkeys(names):
        chart.area(_band(told, name, below), _colour(name), _named(name))
    chart.legend = _entries([shares for _, shares in told])
    return chart.svg()


def _band(
    told: Sequence[tuple[Epoch, dict[str, float]]], name: str, below: dict[int, float]
) -> list[tuple[float, float, float]]:
    """(epoch, from, to) of a share that stands on those below it, which it is added to."""
    points = []
    for epoch, shares in told:
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


def _entries(told: Any) -> list[LegendEntry]:
    names = dict.fromkeys(name for shares in told for name in shares)
    order = [*SHARES, *names]
    return [LegendEntry(_named(name), _colour(name), shape="bar")
            for name in sorted(names, key=order.index)]  # fmt: skip


def _colour(share: str) -> str:
    return SHARES.get(share, _REST_COLOUR)


def _named(share: str) -> str:
    return share.replace("_", " ")


def _percent_axis(whole: float) -> Axis:
    return Axis(0.0, whole, label="% of the time", unit=0.01)

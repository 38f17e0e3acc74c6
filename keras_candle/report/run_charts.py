"""The charts of runs: curves, throughput, the parts of a step's time, and the time line."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from keras_candle.report import axes
from keras_candle.report.chart import MARKERS, Chart, Point, Series, chart
from keras_candle.report.formats import duration, exact, moment, percent, short
from keras_candle.report.reading import number, numbers, sequence
from keras_candle.report.run import Epoch, ReportedRun

_VALIDATION = "val_"
_MOST_CURVES, _MOST_NAMED, _MOST_MARKERS = 24, 12, 300
# The metrics that are shown first, and last.
_FIRST, _LAST = ("loss", "accuracy"), ("learning_rate", "lr", "effective_learning_rate")
# The parts of a step's time, in the order in which they are stacked, with their colours.
_PARTS = {"compute": "c0", "communication": "c3", "input_wait": "c1", "callbacks": "c4",
          "checkpoint": "c5"}  # fmt: skip
_REST, _REST_COLOUR = "rest", "c7"
_EVENTS = {"checkpoint": "checkpoint", "stop": "stop request", "stall": "stall",
           "resume": "restart", "other": "other"}  # fmt: skip


def curves(runs: Sequence[ReportedRun]) -> tuple[dict[str, list[Chart]], int]:
    """Return charts of each metric with its validation metric, and how many are left out."""
    found = dict.fromkeys(name.removeprefix(_VALIDATION) for run in runs for name in run.metrics)
    names = [n for n in _FIRST if n in found]
    names += [n for n in found if n not in (*names, *_LAST)] + [n for n in found if n in _LAST]
    shown, views = names[:_MOST_CURVES], (("by epoch", False), ("by time", True))
    charts = {view: [_curve(runs, name, timed) for name in shown] for view, timed in views}
    return charts if names else {}, len(names) - len(shown)


def _curve(runs: Sequence[ReportedRun], name: str, timed: bool) -> Chart:
    epochs, alone = [each for run in runs for each in run.epochs], len(runs) == 1
    of_name = (name, _VALIDATION + name)
    values = [e.values[metric] for metric in of_name for e in epochs if metric in e.values]
    sign = 1 if all(run.smaller_is_better(name) for run in runs) else -1
    # Outliers are drawn at the axis' edge.
    y = axes.fitted(axes.without_outliers(values, sign) if min(values) <= 0 else values)
    x = axes.counting(max(each.number for each in epochs), "epoch")
    if timed:
        x = axes.of_time([each.active_s for each in epochs], "running time")
    series, marks = [], []
    for run in runs:
        own = [metric for metric in of_name if metric in run.metrics]
        for metric in own:
            points = [_point(run, each, metric, timed) for each in run.epochs
                      if metric in each.values]  # fmt: skip
            colour = run.colour if not alone else "c0" if metric == name else "c1"
            style = colour if metric == own[-1] else f"{colour} train"
            label = _label(run, runs) if metric == own[-1] else ""
            label = metric if alone and len(own) == 2 else label
            series.append(Series("line", points, style, label, None if alone else run.key))
        for place, attempt in enumerate(run.attempts[1:] if alone else [], 1):
            first = next((each for each in run.epochs if each.attempt >= place), None)
            if first is not None:
                text = f"first epoch after a restart at step {attempt.step}"
                at = _point(run, first, name, timed)._replace(text=text)
                marks.append(Series("rules", [at]))
        best = run.best(run.monitor) if run.monitor in own else None
        if best is not None:
            at = _point(run, best, run.monitor, timed)
            marks.append(Series("best", [at._replace(text=f"best: {at.text}")]))
    return chart(name, (x, y), [*series, *marks])


def _point(run: ReportedRun, epoch: Epoch, metric: str, timed: bool) -> Point:
    value = epoch.values.get(metric, 0.0)
    when = f"epoch {epoch.number}, step {epoch.step}, {duration(epoch.active_s)}"
    x = epoch.active_s if timed else float(epoch.number)
    return Point(x, value, f"{run.name}\n{metric} {exact(value)}\n{when}")


def _label(run: ReportedRun, runs: Sequence[ReportedRun]) -> str:
    return run.name if len(runs) > 1 and run.number < _MOST_NAMED else ""


def speed(runs: Sequence[ReportedRun]) -> list[Chart | None]:
    """Return charts of throughput, and of the parts of a step's time."""
    if len(runs) > 1:
        return [_throughput(runs), _step_split(runs)]
    by_rank = _throughput_by_rank(runs[0])
    split = _step_split(runs, wide=by_rank is None)
    return [_throughput(runs), _step_split_by_epoch(runs[0]), by_rank, split]


def _throughput(runs: Sequence[ReportedRun]) -> Chart | None:
    """A chart of samples/s, or of steps/s where the journal has only times."""
    rates, unit, title = [], "samples/s", "samples/s of all ranks"
    for run in runs:
        found = [(e.number, number(e.performance.get("samples_per_s"))) for e in run.epochs]
        rates.append([(epoch, rate) for epoch, rate in found if rate is not None])
    if not any(rates):
        unit, title = "steps/s", "steps/s, by the journal's times"
        rates = [list(_step_rates(run)) for run in runs]
    series = []
    for run, own in zip(runs, rates, strict=True):
        points = [Point(float(n), rate, f"{run.name}\nepoch {n}: {short(rate)} {unit}")
                  for n, rate in own]  # fmt: skip
        series.append(Series("line", points, run.colour, _label(run, runs), run.key))
    if not any(rates):
        return None
    last = max(each.number for run in runs for each in run.epochs)
    y = axes.Axis(0.0, 1.05 * max(rate for own in rates for _, rate in own) or 1.0)
    return chart(title, (axes.counting(last, "epoch"), y), series)


def _step_rates(run: ReportedRun) -> Iterator[tuple[int, float]]:
    """Steps per second from one epoch's end to the next, within one attempt."""
    for before, each in zip(run.epochs, run.epochs[1:], strict=False):
        passed_s, taken = each.time_s - before.time_s, each.step - before.step
        if before.attempt == each.attempt and passed_s > 0 and taken > 0:
            yield each.number, taken / passed_s


def _throughput_by_rank(run: ReportedRun) -> Chart | None:
    found = [number(each) for each in sequence(run.performance.get("samples_per_s_by_rank"))]
    rates = {rank: rate for rank, rate in enumerate(found) if rate is not None}
    if len(rates) < 2:
        return None
    points = [Point(float(n), rate, f"rank {n}: {short(rate)} samples/s")
              for n, rate in rates.items()]  # fmt: skip
    x = axes.counting(len(found) - 1, "rank", 0)
    both = (x, axes.Axis(0.0, 1.05 * max(rates.values()) or 1.0))
    return chart("samples/s of each rank", both, [Series("dots", points, "c0")])


def _step_split(runs: Sequence[ReportedRun], wide: bool = False) -> Chart | None:
    splits = {run.name: split for run in runs if (split := _split(run.performance))}
    points = defaultdict(list)
    for lane, split in splits.items():
        begin = 0.0
        for name, size in split.items():
            text = f"{lane}\n{name.replace('_', ' ')}: {percent(size, 1)}"
            points[name].append(Point(begin, lane, text, end=begin + size))
            begin += size
    series = [_stacked("ranges", name, points[name]) for name in _order(points)]
    both = (_percent_axis(splits.values()), axes.Categories(tuple(splits)))
    title = "where a step's time goes"
    return chart(title, both, series, wide=wide) if splits else None


def _step_split_by_epoch(run: ReportedRun) -> Chart | None:
    splits = {each.number: split for each in run.epochs if (split := _split(each.performance))}
    if len(splits) < 2:
        return None
    series, below = [], dict.fromkeys(splits, 0.0)
    for name in _order(each for split in splits.values() for each in split):
        above = {epoch: below[epoch] + split.get(name, 0.0) for epoch, split in splits.items()}
        points = [Point(float(epoch), below[epoch], end=above[epoch]) for epoch in splits]
        series.append(_stacked("band", name, points))
        below = above
    x = axes.counting(run.epochs[-1].number, "epoch")
    both = (x, _percent_axis(splits.values()))
    return chart("where a step's time goes, epoch by epoch", both, series)


def _split(performance: dict[str, Any]) -> dict[str, float]:
    given = {name: n for name, n in numbers(performance.get("split")).items() if n > 0}
    rest = 1.0 - sum(given.values())
    found = {name: given[name] for name in _order(given)}
    return {**found, _REST: rest} if found and rest > 0.005 else found


def _order(names: Iterable[str]) -> list[str]:
    """The names of the parts in the order in which they are stacked."""
    found = dict.fromkeys(names)
    more = [name for name in found if name not in _PARTS and name != _REST]
    return [name for name in (*_PARTS, *more, _REST) if name in found]


def _stacked(kind: str, name: str, points: Sequence[Point]) -> Series:
    label = name.replace("_", " ")
    return Series(kind, points, _PARTS.get(name, _REST_COLOUR), label, tooltip=label)


def _percent_axis(splits: Iterable[dict[str, float]]) -> axes.Axis:
    whole = max([1.0, *(sum(each.values()) for each in splits)])
    return axes.Axis(0.0, whole, label="% of the time", unit=0.01)


def timeline(runs: Sequence[ReportedRun]) -> Chart:
    """Return a chart with a lane for each run: its attempts, checkpoints, stops and stalls."""
    spans, marks, left_out = [], defaultdict(list), 0
    for run in runs:
        origin_s = run.attempts[0].began_s
        for place, attempt in enumerate(run.attempts):
            begin_s, end_s = attempt.began_s - origin_s, attempt.ended_s - origin_s
            ranks = f" on {attempt.ranks} ranks" if attempt.ranks else ""
            when = f"{moment(attempt.began_s)}, {duration(end_s - begin_s)}"
            text = f"{run.name}\nattempt {place + 1}{ranks}, from step {attempt.step}\n{when}\n"
            text += f"{attempt.end or 'no end recorded'}\n{', '.join(attempt.hosts[:6])}".rstrip()
            style = f"{run.colour} faint"
            spans.append(Point(begin_s, run.name, text, run.key, style, end_s))
            if place:
                marks["resume"].append(Point(begin_s, run.name, text))
        checkpoints = [each for each in run.events if each.kind == "checkpoint"]
        drawn = checkpoints[:: -(-len(checkpoints) // _MOST_MARKERS) or 1]
        left_out += len(checkpoints) - len(drawn)
        events = [each for each in run.events if each.kind != "checkpoint"]
        for event in [*drawn, *events[-_MOST_MARKERS:]]:
            kind = event.kind if event.kind in _EVENTS else "other"
            text = f"{event.text}\n{moment(event.time_s)}"
            marks[kind].append(Point(event.time_s - origin_s, run.name, text))
    series = [Series(kind, marks[kind], label=_EVENTS[kind]) for kind in MARKERS if marks[kind]]
    ends = [run.attempts[-1].ended_s - run.attempts[0].began_s for run in runs]
    lanes = axes.Categories(tuple(run.name for run in runs))
    title = "attempts and events"
    title += f"; {left_out} checkpoints are not drawn" if left_out else ""
    both = (axes.of_time(ends, "time since the start"), lanes)
    return chart(title, both, [Series("ranges", spans), *series], wide=True)

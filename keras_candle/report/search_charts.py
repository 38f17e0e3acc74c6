"""The charts of a search: its progress, its hyperparameters, its costs and its groups."""

from collections.abc import Iterator, Sequence
from typing import Any

from keras_candle.report import axes
from keras_candle.report.axes import Axis, Categories, value_text
from keras_candle.report.chart import Chart, Point, Series, chart
from keras_candle.report.formats import duration, exact, moment, percent
from keras_candle.report.trials import INTERACTIONS, Parameter, ReportedTrial, Search

MOST_GROUPS, MOST_SLICES = 64, 8
_MEASURES = ("device_seconds", "parameters", "prediction_latency_s", "peak_memory_bytes")
_MOST_BARS, _MOST_UPRIGHTS, _MOST_FRONTS = 16, 12, 4
_GOLDEN = 0.6180339887
_QUALITY = (Series("dots", (), "q0", "a good trial"), Series("dots", (), "q6", "a bad one"))
# Of parallel coordinates: the width, the side, the axes' top and bottom, and the place below them
# at which lines of trials without the hyperparameter pass.
_WIDTH, _SIDE, _TOP, _BOTTOM, _NOT_ACTIVE = 1148.0, 70.0, 38.0, 338.0, 362.0


def _objective_axis(search: Search) -> Axis:
    """An axis of the first objective; outliers are drawn at its end."""
    values = [each.objective or 0.0 for each in search.completed]
    return axes.fitted(axes.without_outliers(values, search.objectives[0].sign))


def _dot(
    search: Search, trial: ReportedTrial, x: Any, y: float | str, more: str = "", style: str = ""
) -> Point:
    style = style or search.quality.get(trial.name, "c7 faint")
    return Point(x, y, f"{search.describe(trial)}\n{more}".strip(), search.key(trial), style)


def best_so_far(search: Search) -> Iterator[Chart]:
    """Yield charts of each trial's objective and the best so far, over trials and over time."""
    places = {each.name: float(place) for place, each in enumerate(search.ended, 1)}
    x = axes.counting(len(places), "trials that have ended")
    yield from _progress(search, "trials", x, places)
    if (first_s := search.first_s) is not None:
        times = {t.name: t.ended_s - first_s for t in search.ended if t.ended_s is not None}
        x = axes.of_time(times.values(), "time since the first trial")
        yield from _progress(search, "time", x, times)


def _progress(search: Search, over: str, x: Axis, places: dict[str, float]) -> Iterator[Chart]:
    objective, y = search.objectives[0], _objective_axis(search)
    ended = [each for each in search.ended if each.name in places]
    worst = y.high if objective.sign > 0 else y.low

    def when(trial: ReportedTrial) -> str:
        if trial.ended_s is None or search.first_s is None:
            return "at an unknown time"
        return f"after {duration(trial.ended_s - search.first_s)}"

    def point(trial: ReportedTrial) -> Point:
        value = worst if trial.objective is None else trial.objective
        return _dot(search, trial, places[trial.name], value, when(trial))

    line = [
        point(t)._replace(text=f"new best {exact(t.objective or 0.0)}\ntrial {t.name}, {when(t)}")
        for t in search.new_bests(search.within_max_cost(ended))
    ]
    line += [each._replace(x=places[ended[-1].name]) for each in line[-1:]]  # up to the last trial
    dots = [point(each) for each in ended if each.name in search.drawn]
    series = [Series("dots", dots), Series("steps", line, "best", "best so far"), *_QUALITY]
    series += [Series("dots", (), "failed", "failed")] if search.failed else []
    if any(each.objective is not None for each in ended):
        yield chart(f"{objective.name}, best so far over {over}", (x, y), series)


def importance(search: Search) -> Chart | None:
    """Return a chart with a bar for each hyperparameter; None with too few trials."""
    shown = dict(list(search.importance.items())[:_MOST_BARS])
    if not shown:
        return None
    bars, texts, styles = [], [], {INTERACTIONS: "c7 faint"}
    for name, part in shown.items():
        text = f"{name}: {percent(part, 1)}"
        bars.append(Point(0.0, name, text, style=styles.get(name, ""), end=part))
        texts.append(Point(part, name, percent(part)))
    method = "a forest's main effects" if search.from_forest else "each alone, by ranks"
    series = [Series("ranges", bars, "c0", method), Series("texts", texts, "note")]
    if INTERACTIONS in shown:
        series.append(Series("ranges", (), styles[INTERACTIONS], "interactions"))
    x = Axis(0.0, (max(shown.values()) or 1.0) * 1.12, label="% of the variance", unit=0.01)
    return chart("importance of hyperparameters", (x, Categories(tuple(shown))), series)


def parallel_coordinates(search: Search) -> Chart | None:
    """Return a chart with a line for each trial through its hyperparameters to its objective."""
    trials = [each for each in search.completed if each.name in search.drawn]
    varied = [p for p in search.by_importance
              if len({value_text(each.values.get(p.name)) for each in trials}) > 1]  # fmt: skip
    if len(trials) < 2 or not varied:
        return None
    columns: list[tuple[str, axes.AnyAxis, dict[str, Any]]] = []
    for parameter in varied[:_MOST_UPRIGHTS][::-1]:
        name = parameter.name
        values = {each.name: each.values[name] for each in trials if name in each.values}
        columns.append((name, axes.axis_of(parameter, values.values()), values))
    objectives = {each.name: each.objective for each in trials}
    columns.append((search.objectives[0].name, _objective_axis(search), objectives))
    gap = (_WIDTH - 2 * _SIDE - 40) / (len(columns) - 1)
    lines: dict[str, list[Point]] = {each.name: [] for each in reversed(trials)}
    uprights: list[Series] = []
    for place, (name, axis, values) in enumerate(columns):
        x = _SIDE + place * gap
        for trial, points in lines.items():
            points.append(Point(x, _down(axis, values[trial]) if trial in values else _NOT_ACTIVE))
        # Every second name is lower, so that they don't touch.
        uprights += _upright(x, _TOP - (16 if place % 2 else 32), name, axis, gap)
    if any(point.y == _NOT_ACTIVE for line in lines.values() for point in line):
        uprights.append(Series("texts", [Point(_SIDE - 13, _NOT_ACTIVE, "not active")], "end halo"))
    series = []
    for each in reversed(trials):  # the best on top
        texts = [f"{name} {value_text(value)}" for name, value in each.values.items()]
        text = "\n".join([search.describe(each), *texts[:20]])
        style = "best" if each is search.best else f"thin {search.quality[each.name]}"
        series.append(Series("line", lines[each.name], style, "", search.key(each), text))
    title = "parallel coordinates, the most important next to the objective"
    if len(varied) > _MOST_UPRIGHTS:
        title += f"; {len(varied) - _MOST_UPRIGHTS} hyperparameters are left out"
    both = (Axis(0.0, _WIDTH), Axis(_NOT_ACTIVE, 0.0))
    return chart(title, both, [*series, *uprights], wide=True, framed=False)


def _down(axis: axes.AnyAxis, value: Any) -> float:
    place = axis.place(value_text(value) if isinstance(axis, Categories) else value)
    return _BOTTOM - place * (_BOTTOM - _TOP)


def _upright(x: float, top: float, name: str, axis: axes.AnyAxis, gap: float) -> Iterator[Series]:
    """A vertical axis with its ticks and its name above it."""
    ticks = axis.ticks(5) if isinstance(axis, Axis) else axis.ticks()
    downs = [(_BOTTOM - place * (_BOTTOM - _TOP), text) for place, text in ticks]
    marks = [Point(x + along, y) for y, _ in downs for along in (0.0, 4.0, 0.0)]
    yield Series("line", [Point(x, _BOTTOM), *marks, Point(x, _TOP)], "axis")
    yield Series("texts", [Point(x - 5, top, name, end=max(gap / 3.7 - 1, 4))], "upright middle")
    room = max((gap - 12) / 6.6, 4)
    yield Series("texts", [Point(x + 2, y, text, end=room) for y, text in downs], "halo")


def slices(search: Search) -> list[Chart | None]:
    """Return charts of the objective by each of the most important hyperparameters."""
    return [_slice(search, each) for each in search.by_importance[:MOST_SLICES]]


def _slice(search: Search, parameter: Parameter) -> Chart | None:
    name = parameter.name
    shown = [t for t in search.completed if t.name in search.drawn and name in t.values]
    if len({value_text(each.values[name]) for each in shown}) < 2:
        return None
    axis, dots = axes.axis_of(parameter, [each.values[name] for each in shown]), []
    for place, each in enumerate(reversed(shown)):
        x, text = each.values[name], value_text(each.values[name])
        if isinstance(axis, Categories):  # spread sideways, the same way each time
            x = axis.values.index(text) + 0.4 * (place * _GOLDEN % 1.0 - 0.5)
        dots.append(_dot(search, each, x, each.objective or 0.0, f"{name} {text}"))
    title = f"{search.objectives[0].name} by {name}"
    return chart(title, (axis, _objective_axis(search)), [Series("dots", dots)])


def pareto_fronts(search: Search) -> list[Chart | None]:
    """Return a chart for each further objective and each measured cost, with the Pareto front."""
    whole, first = search.completed, search.objectives[0].name
    columns: list[tuple[str, list[Any], int]] = [
        (objective.name, [each.objectives[place] for each in whole], objective.sign)
        for place, objective in enumerate(search.objectives)
    ]
    columns.append((search.cost, [each.cost for each in whole], 1))
    columns += [(name, [each.measured.get(name) for each in whole], 1) for name in _MEASURES]
    unique = {each[0]: each for each in reversed(columns) if each[0] != first}
    shown = [each for each in columns if unique.get(each[0]) is each and len(set(each[1])) > 1]
    return [_pareto_front(search, *each) for each in shown[:_MOST_FRONTS]]


def _pareto_front(search: Search, name: str, column: list[Any], sign: int) -> Chart | None:
    pairs = zip(search.completed, column, strict=True)
    shown = [(each, cost) for each, cost in pairs if cost is not None]
    objective, costs = search.objectives[0], [cost for _, cost in shown]
    values = [each.objective or 0.0 for each, _ in shown]
    front = front_of([(sign * c, objective.sign * v) for c, v in zip(costs, values, strict=True)])
    dots = []
    for place, (each, cost) in enumerate(shown):
        style = "c2" if place in front else f"hollow {search.quality[each.name]}"
        if place in front or each.name in search.drawn:
            more = f"{name} {exact(cost)}"
            dots.append(_dot(search, each, cost, each.objective or 0.0, more, style))
    series = [
        Series("steps", [Point(costs[place], values[place]) for place in front], "c2"),
        Series("dots", dots),
        Series("dots", (), "c2", f"on the front ({len(front)})"),
        Series("dots", (), "hollow q2", "dominated"),
    ]
    y = axes.fitted(axes.without_outliers(values, objective.sign))
    title = f"{objective.name} against {name}"
    return chart(title, (axes.fitted(costs, name), y), series) if len(shown) > 1 else None


def front_of(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of the points on the Pareto front of a minimisation, in its order."""
    best, found = float("inf"), []
    for place in sorted(range(len(points)), key=lambda each: points[each]):
        if points[place][1] < best:
            best = points[place][1]
            found.append(place)
    return found


def by_subspace(search: Search, subspaces: dict[int, list[ReportedTrial]]) -> Chart:
    """Return a chart with a lane for each subspace, of its trials in the order of their ends."""
    lanes = {subspace_name(n): own for n, own in list(subspaces.items())[:MOST_GROUPS]}
    places = {each.name: float(place) for place, each in enumerate(search.ended, 1)}
    drawn = search.drawn & places.keys()
    pairs = [(lane, t) for lane, own in lanes.items() for t in own if t.name in drawn]
    styles = {each.name: "best" for each in search.completed[:1]}
    dots = [_dot(search, t, places[t.name], n, style=styles.get(t.name, "")) for n, t in pairs]
    series = [Series("dots", dots), Series("dots", (), "best", "the best trial"), *_QUALITY]
    both = axes.counting(len(places), "trials that have ended"), Categories(tuple(lanes))
    return chart("trials of each subspace", both, series, wide=True)


def subspace_name(number: int) -> str:
    """Return the name of a subspace."""
    return "whole space" if number < 0 else f"subspace {number}"


def by_group(search: Search, groups: dict[int, list[ReportedTrial]]) -> Chart:
    """Return a chart with a lane for each group of ranks, of its trials that have begun."""
    shown, first_s = list(groups.items())[:MOST_GROUPS], search.first_s or 0.0
    last_s = max(t.ended_s or t.started_s or first_s for _, own in shown for t in own)
    bars, lanes = [], []
    for group, own in shown:
        busy_s = sum(each.took_s or 0.0 for each in own)
        lanes.append(f"group {group}, {percent(busy_s / max(last_s - first_s, 1e-9))}")
        for each in (each for each in own if each.name in search.drawn):
            begin_s = (each.started_s or first_s) - first_s
            end_s = max((each.ended_s or last_s) - first_s, begin_s)
            took = f"since {moment(begin_s + first_s)}"
            took = took if each.ended_s is None else duration(end_s - begin_s)
            bars.append(_dot(search, each, begin_s, lanes[-1], took)._replace(end=end_s))
    x = axes.of_time([last_s - first_s], "time since the first trial")
    both, series = (x, Categories(tuple(lanes))), [Series("ranges", bars)]
    return chart("trials of each group", both, series, wide=True)

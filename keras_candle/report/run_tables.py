"""The values of runs that the page shows in tiles and tables: overview, figures, environment."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from keras_candle.report.formats import duration, exact, memory, percent, short
from keras_candle.report.reading import mapping, number, sequence, whole
from keras_candle.report.run import ReportedRun

# The formats of figures, by the unit at the end of a name.
_UNITS: dict[str, Callable[[float], str]] = {
    "ms": lambda value: duration(value / 1000),
    "s": duration,
    "bytes": memory,
    "j": lambda value: f"{short(value)} J",
    "w": lambda value: f"{short(value)} W",
}
# Figures that are elsewhere on the page.
_ELSEWHERE = ("ranks", "engine", "samples_per_s_by_rank", "split", "measured")
# The options of a run in config.json; the rest of the file is its environment.
_OPTIONS = ("callback", "scalable", "fit")
# Values that differ in each run.
_OWN = ("directory", "callback.run_directory")


# A text, and the number in full that it shortens.
_Cell = tuple[str, str | None]
# A value of several runs: its name, a cell for each run, and whether it is marked as different.
Compared = tuple[str, list[_Cell], bool]


def overview(run: ReportedRun) -> dict[str, Any]:
    """Return the values that sum up a run, by name."""
    epochs, attempts, monitor = run.epochs, run.attempts, run.monitor
    ranks = [run.config.get("ranks"), run.performance.get("ranks"), *[a.ranks for a in attempts]]
    records = [run.performance, *[each.performance for each in reversed(epochs)]]
    rates = [number(each.get("samples_per_s")) for each in records]
    last = [each.values[monitor] for each in epochs if monitor in each.values]
    asked = number(mapping(run.config.get("fit")).get("epochs"))
    ended = "ended" if asked is not None and epochs and epochs[-1].in_fit >= asked else ""
    state = attempts[-1].end or ended or "no end recorded: running, or killed" if attempts else ""
    return {
        "state": state or "not started",
        "ranks": next(filter(None, map(whole, reversed(ranks))), None),
        "hosts": max((len(each.hosts) for each in attempts), default=0),
        "steps": max((each.step for each in epochs), default=0),
        "best": run.best(monitor),
        "last": last[-1] if last else None,
        "active_s": sum(each.ended_s - each.began_s for each in attempts),
        "samples_per_s": next((each for each in rates if each is not None), None),
        "restarts": max(len(attempts) - 1, 0),
        "checkpoints": sum(each.kind == "checkpoint" for each in run.events),
    }


def figures(runs: Sequence[ReportedRun]) -> list[Compared]:
    """Return every figure that any run's performance.json has and no chart shows."""
    found = [{k: v for k, v in run.performance.items() if k not in _ELSEWHERE} for run in runs]
    columns = [dict(_figure(path, each) for path, each in _flat(run)) for run in found]
    return _compared(columns, mark=False)


def _figure(path: str, value: Any) -> tuple[str, _Cell]:
    """The name of a figure on the page, its text, and its number in full."""
    parts = path.replace("_per_", "/").split(".")
    unit = next((unit for unit in _UNITS for each in parts if each.endswith(f"_{unit}")), "")
    name = ", ".join(each.removesuffix(f"_{unit}") for each in parts).replace("_", " ")
    write = percent if name.endswith(("utilisation", "efficiency")) else _UNITS.get(unit, short)
    if (as_number := number(value)) is not None:
        return name, (write(as_number), exact(as_number))
    text = ", ".join(map(str, value)) if isinstance(value, list) else _described(value)
    return name, (text, None)


def measured(runs: Sequence[ReportedRun]) -> dict[str, Any]:
    """Return how each figure was measured, by its name."""
    found = [mapping(run.performance.get("measured")) for run in runs]
    return {str(name).replace("_", " "): text for each in found for name, text in each.items()}


def options(runs: Sequence[ReportedRun]) -> list[Compared]:
    """Return all options of runs, with their defaults."""
    return _compared([_cells({name: run.config.get(name) for name in _OPTIONS}) for run in runs])


def environment(runs: Sequence[ReportedRun]) -> list[Compared]:
    """Return the versions, ranks, hosts and revision of runs."""
    found = []
    for run in runs:
        config = {str(name): each for name, each in run.config.items() if name not in _OPTIONS}
        listed = sequence(config.get("hosts")) or [config.get("hosts") or ""]
        hosts = [*map(str, listed), *(host for each in run.attempts for host in each.hosts)]
        ranks = dict.fromkeys(each.ranks for each in run.attempts if each.ranks)
        first = {
            "git revision": config.pop("git", None),
            "hosts": ", ".join(filter(None, dict.fromkeys(hosts))),
            "ranks": ", then ".join(map(str, ranks)) or config.get("ranks"),
            **{name: config.pop(name, None) for name in ("engine", "backend", "python")},
            **mapping(config.pop("versions", None)),
        }
        more = {name: each for name, each in config.items() if name not in first}
        found.append(_cells({**first, **more, "directory": str(run.path)}))
    return _compared(found)


def _compared(columns: Sequence[dict[str, _Cell]], mark: bool = True) -> list[Compared]:
    found = []
    for name in dict.fromkeys(name for column in columns for name in column):
        cells = [column.get(name, ("", None)) for column in columns]
        if any(text for text, _ in cells):
            differs = mark and name not in _OWN and len(set(cells)) > 1
            found.append((name, cells, differs))
    return found


def _cells(values: dict[str, Any]) -> dict[str, _Cell]:
    return {path: (_described(each), None) for path, each in _flat(values)}


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every value in nested objects, by its path."""
    if isinstance(value, dict) and value:
        for key, each in value.items():
            yield from _flat(each, f"{name}.{key}" if name else str(key))
    elif value is not None and name:
        yield name, value


def _described(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

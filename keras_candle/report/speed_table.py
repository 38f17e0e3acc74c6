"""The table of runs' performance.json, and how each figure was measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from keras_candle.report.layout import NOTHING, Cell, LayoutRow, facts, table, text_cell
from keras_candle.report.markup import Markup, element, joined
from keras_candle.report.quantities import duration, exact, memory, percent, short
from keras_candle.report.reading import number
from keras_candle.report.reading import table as object_of
from keras_candle.report.run import ReportedRun


def _ms(value: float) -> str:
    return duration(value / 1000)


def _per_second(value: float) -> str:
    return f"{short(value)}/s"


_LIMIT = "what limits it"
# The path in performance.json, the name in the table, and the format of each figure.
_FIGURES: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("verdict", _LIMIT, str),
    ("samples_per_s", "samples/s, all ranks", short),
    ("scaling_efficiency", "scaling efficiency", percent),
    ("scaling_from", "compared with", str),
    ("step_ms.p50", "step, median", _ms),
    ("step_ms.p90", "step, 90th percentile", _ms),
    ("step_ms.p99", "step, 99th percentile", _ms),
    ("step_ms.mean", "step, mean", _ms),
    ("step_ms.first", "first step", _ms),
    ("steps", "steps", short),
    ("samples", "samples", short),
    ("global_batch_rows", "global batch, rows", exact),
    ("time_s.whole", "time, whole", duration),
    ("time_s.training", "time in training", duration),
    ("time_s.evaluation", "time in evaluation", duration),
    ("time_s.checkpoint", "time in checkpoints", duration),
    ("parameters", "parameters", short),
    ("flops_per_step", "FLOP a step", short),
    ("flops_per_s", "FLOP/s", _per_second),
    ("utilisation", "utilisation of the peak", percent),
    ("memory.host_peak_bytes", "host memory, peak", memory),
    ("memory.device_peak_bytes", "device memory, peak", memory),
    ("gpu.utilisation", "GPU, part of the time in use", percent),
    ("gpu.memory_peak_bytes", "GPU memory of all processes, peak", memory),
    ("gpu.energy_j", "GPU energy, J", short),
    ("cost.core_s", "cost, core time", duration),
    ("cost.device_s", "cost, device time", duration),
    ("flops_unknown_layers", "layers without known FLOP", str),
)
_KNOWN = {each for each, *_ in _FIGURES}
# Figures that are elsewhere on the page.
_ELSEWHERE = ("ranks", "engine", "samples_per_s_by_rank", "split", "measured")


def speed_table(runs: Sequence[ReportedRun]) -> Markup:
    """Return a table with a row for each figure that any run has, and a column for each run."""
    shown = [run for run in runs if run.performance]
    rows = [
        LayoutRow([Cell(title), *[_cell(run, path, write) for run in shown]])
        for path, title, write in _FIGURES
        if any(_found(run.performance, path) is not None for run in shown)
    ]
    paths = dict.fromkeys(path for run in shown for path in _paths(run.performance))
    more = [path for path in paths if path not in _KNOWN and path.split(".")[0] not in _ELSEWHERE]
    rows += [LayoutRow([Cell(path), *[_cell(run, path, short) for run in shown]]) for path in more]
    if not rows:
        return Markup("")
    if len(runs) == 1:
        # The verdict is shown above.
        pairs = ((row.cells[0].text, row.cells[1]) for row in rows if row.cells[0].text != _LIMIT)
        return joined(facts(pairs), _measured(shown))
    return joined(table(("", *[run.name for run in shown]), rows, style="facts"), _measured(shown))


def _cell(run: ReportedRun, path: str, write: Callable[[float], str]) -> Cell:
    value = _found(run.performance, path)
    as_number = number(value)
    if as_number is not None and write is not str:
        return Cell(write(as_number), title=exact(as_number))
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    return Cell(NOTHING) if value in (None, "") else text_cell(value, 120)


def _found(performance: dict[str, Any], path: str) -> Any:
    value: Any = performance
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _paths(performance: dict[str, Any]) -> list[str]:
    """The paths of all figures, one object deep."""
    found = []
    for name, value in performance.items():
        inner = [f"{name}.{each}" for each in value] if isinstance(value, dict) else [name]
        found += [each for each in map(str, inner) if each.count(".") <= 1]
    return found


def _measured(runs: Sequence[ReportedRun]) -> Markup | None:
    measured = {
        str(name): sentence
        for run in runs
        for name, sentence in object_of(run.performance.get("measured")).items()
    }
    if not measured:
        return None
    lines = [element("li", element("b", name.replace("_", " ")), f": {sentence}")
             for name, sentence in measured.items()]  # fmt: skip
    return element("details", element("summary", "How each figure was measured"),
                   element("ul", *lines), class_="soft")  # fmt: skip

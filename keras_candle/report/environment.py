"""Tables of runs' environments and options, side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from keras_candle.report.layout import NOTHING, Cell, LayoutRow, facts, subsection, table, text_cell
from keras_candle.report.markup import Markup, element
from keras_candle.report.reading import table as object_of
from keras_candle.report.run import ReportedRun

# The options of a run in config.json; the rest of the file is its environment.
_ASKED = ("callback", "scalable", "fit")
# Values that differ in each run.
_OWN = ("directory", "callback.run_directory")
_LONGEST = 120


def environment(runs: Sequence[ReportedRun]) -> Markup:
    """Return a table of versions, ranks, hosts and revision, and one of all options.

    Args:
        runs: a column for each.
    """
    shown = [run for run in runs if run.config or run.attempts]
    if not shown:
        return Markup("")
    where = [dict(_where(run)) for run in shown]
    asked = [dict(_flat({name: run.config.get(name) for name in _ASKED})) for run in shown]
    options = _table(shown, asked)
    lead = "Differences between the runs are marked." if len(shown) > 1 else None
    return subsection(
        "Environment",
        _table(shown, where),
        element("details", element("summary", "All options, with their defaults"), options)
        if options
        else None,
        lead=lead,
    )


def _where(run: ReportedRun) -> Iterator[tuple[str, str]]:
    config = dict(run.config)
    hosts = dict.fromkeys(host for attempt in run.attempts for host in attempt.hosts)
    given = config.pop("hosts", None)
    listed = given if isinstance(given, list) else [given] if given else []
    yield "git revision", _described(config.pop("git", None))
    yield "hosts", ", ".join(dict.fromkeys([*map(str, listed), *hosts])) or NOTHING
    ranks = dict.fromkeys(attempt.ranks for attempt in run.attempts if attempt.ranks is not None)
    before = config.pop("ranks", None)
    yield "ranks", ", then ".join(map(str, ranks)) or _described(before)
    versions = object_of(config.pop("versions", None))
    for name in ("engine", "backend", "python"):
        yield name, _described(config.pop(name, None))
    yield from ((str(name), _described(value)) for name, value in versions.items())
    for name in _ASKED:
        config.pop(name, None)
    yield from _flat(config)
    yield "directory", str(run.path)


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every value in nested objects, by its path."""
    if isinstance(value, dict) and value:
        for key, each in value.items():
            yield from _flat(each, f"{name}.{key}" if name else str(key))
    elif value is not None and name:
        yield name, _described(value)


def _described(value: Any) -> str:
    if value is None:
        return NOTHING
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _table(runs: Sequence[ReportedRun], columns: Sequence[dict[str, str]]) -> Markup:
    if len(runs) == 1:
        shown = columns[0].items()
        return facts((name, text_cell(each, _LONGEST)) for name, each in shown if each != NOTHING)
    rows = []
    for name in dict.fromkeys(name for column in columns for name in column):
        values = [column.get(name, NOTHING) for column in columns]
        if set(values) == {NOTHING}:
            continue
        differs = len(set(values)) > 1 and name not in _OWN
        cells = [Cell(name), *[text_cell(each, _LONGEST) for each in values]]
        rows.append(LayoutRow(cells, style="differs" if differs else None))
    return table(("", *[run.name for run in runs]), rows, style="facts") if rows else Markup("")

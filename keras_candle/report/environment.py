"""Where runs ran and what they were asked to do, side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from keras_candle.report.layout import NOTHING, Cell, LayoutRow, facts, of_text, part, table
from keras_candle.report.markup import Markup, element
from keras_candle.report.reading import table as object_of
from keras_candle.report.run import ReportedRun

# What a program was asked to do; the rest of config.json tells where it ran.
_ASKED = ("callback", "scalable", "fit")
# What each run has for itself.
_OWN = ("directory", "callback.run_directory")
_LONGEST = 120


def environment(runs: Sequence[ReportedRun]) -> Markup:
    """A table of versions, ranks, hosts and revision, and one of all options.

    Args:
        runs: a column for each.
    """
    told = [run for run in runs if run.config or run.starts]
    if not told:
        return Markup("")
    where = [dict(_where(run)) for run in told]
    asked = [dict(_flat({name: run.config.get(name) for name in _ASKED})) for run in told]
    options = _table(told, asked)
    lead = "What differs between the runs is marked." if len(told) > 1 else None
    return part(
        "Environment",
        _table(told, where),
        element("details", element("summary", "All options, with their defaults"), options)
        if options
        else None,
        lead=lead,
    )


def _where(run: ReportedRun) -> Iterator[tuple[str, str]]:
    config = dict(run.config)
    hosts = dict.fromkeys(host for start in run.starts for host in start.hosts)
    given = config.pop("hosts", None)
    listed = given if isinstance(given, list) else [given] if given else []
    yield "git revision", _described(config.pop("git", None))
    yield "hosts", ", ".join(dict.fromkeys([*map(str, listed), *hosts])) or NOTHING
    ranks = dict.fromkeys(start.ranks for start in run.starts if start.ranks is not None)
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
        told = columns[0].items()
        return facts((name, of_text(each, _LONGEST)) for name, each in told if each != NOTHING)
    rows = []
    for name in dict.fromkeys(name for column in columns for name in column):
        values = [column.get(name, NOTHING) for column in columns]
        if set(values) == {NOTHING}:
            continue
        differs = len(set(values)) > 1 and name not in _OWN
        cells = [Cell(name), *[of_text(each, _LONGEST) for each in values]]
        rows.append(LayoutRow(cells, style="differs" if differs else None))
    return table(("", *[run.name for run in runs]), rows, style="facts") if rows else Markup("")

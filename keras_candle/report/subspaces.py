"""The subspaces of a search: a chart of their trials, and a table of their results."""

from __future__ import annotations

from collections import defaultdict

from keras_candle.report.axes import Categories, counting
from keras_candle.report.best_so_far import quality_entries
from keras_candle.report.chart import Chart
from keras_candle.report.layout import (
    NOTHING,
    Cell,
    LayoutRow,
    card,
    number_cell,
    subsection,
    table,
)
from keras_candle.report.legend import LegendEntry
from keras_candle.report.markup import Markup, joined
from keras_candle.report.quantities import percent
from keras_candle.report.trials import FAILED, ReportedTrial, Search

_MOST_LANES = 64


def subspaces(search: Search) -> Markup:
    """Return a chart and a table of the subspaces; nothing if the space was not cut."""
    found: dict[int, list[ReportedTrial]] = defaultdict(list)
    for each in search.trials:
        if each.subspace is not None:
            found[each.subspace].append(each)
    if len(found) < 2:
        return Markup("")
    ordered = dict(sorted(found.items()))
    return subsection(
        "Subspaces",
        card(_chart(search, ordered)),
        _table(search, ordered),
        lead="The space was cut into overlapping subspaces; each trial belongs to one of them.",
    )


def _name(subspace: int) -> str:
    return "whole space" if subspace < 0 else f"subspace {subspace}"


def _chart(search: Search, found: dict[int, list[ReportedTrial]]) -> Markup | None:
    places = {each.name: float(place) for place, each in enumerate(search.ended, 1)}
    shown = list(found)[:_MOST_LANES]
    if not places:
        return None
    chart = Chart(
        "trials of each subspace",
        counting(len(places), "trials that have ended"),
        Categories(tuple(map(_name, reversed(shown)))),
        width=1148,
        height=max(60.0, 20.0 * len(shown)),
    )
    chart.legend = [LegendEntry("the best trial", "best", shape="dot"), *quality_entries()]
    quality, best = search.quality, search.completed[:1]
    chart.dots(
        (places[each.name], _name(subspace), "best" if each in best else quality[each.name],
         search.describe(each), search.key(each))
        for subspace in shown
        for each in found[subspace]
        if each.name in places and each.name in search.drawn
    )  # fmt: skip
    return chart.svg()


def _table(search: Search, found: dict[int, list[ReportedTrial]]) -> Markup:
    new_bests = _new_bests(search)
    budget = _budget(search)
    whole = sum(budget.values()) or 1.0
    head = ("subspace", "trials", "failed", f"best {search.objectives[0].name}", "its trial",
            "new bests", "share of the budget")  # fmt: skip
    rows = []
    for subspace, trials in found.items():
        best = next((each for each in search.completed if each.subspace == subspace), None)
        share = sum(budget.get(each.name, 0.0) for each in trials) / whole
        rows.append(
            LayoutRow(
                [
                    Cell(_name(subspace), float(subspace)),
                    number_cell(len(trials)),
                    number_cell(sum(each.status == FAILED for each in trials)),
                    number_cell(best.objective if best else None),
                    Cell(best.name if best else NOTHING),
                    number_cell(sum(each.name in new_bests for each in trials)),
                    number_cell(share, percent(share)),
                ],
                search.key(best) if best else None,
            )
        )
    return joined(table(head, rows, sortable=True))


def _budget(search: Search) -> dict[str, float]:
    """Each trial's part of the budget: its cost if all have one, else its time, else 1."""
    ended = search.ended
    if all(each.cost is not None for each in ended):
        return {each.name: max(each.cost or 0.0, 0.0) for each in ended}
    if all(each.ended_s is not None and each.started_s is not None for each in ended):
        times = {each.name: (each.ended_s or 0.0) - (each.started_s or 0.0) for each in ended}
        return {name: max(passed_s, 0.0) for name, passed_s in times.items()}
    return dict.fromkeys((each.name for each in ended), 1.0)


def _new_bests(search: Search) -> set[str]:
    sign, best, found = search.objectives[0].sign(), float("inf"), set()
    for each in search.ended:
        if each.objective is not None and sign * each.objective < best:
            best = sign * each.objective
            found.add(each.name)
    return found

"""The section of the page that shows a search."""

from __future__ import annotations

import math
from typing import Any

from keras_candle.report.best_so_far import best_so_far
from keras_candle.report.front import fronts
from keras_candle.report.groups import groups
from keras_candle.report.importance import importance_chart
from keras_candle.report.layout import card, grid, missing, section, subsection, tiles
from keras_candle.report.markup import Markup, element
from keras_candle.report.parallel import parallel
from keras_candle.report.quantities import counted, duration, short
from keras_candle.report.slices import slices
from keras_candle.report.subspaces import subspaces
from keras_candle.report.trial_table import trial_table
from keras_candle.report.trials import Search


def section_of_search(search: Search) -> Markup:
    """Return the section of a search, its results first."""
    return section(
        f"Search {search.name}",
        _tiles(search),
        missing(search.missing),
        subsection("Best so far", best_so_far(search)),
        subsection(
            "What matters", grid(card(importance_chart(search)), _best(search)), parallel(search)
        ),
        slices(search),
        fronts(search),
        subspaces(search),
        groups(search),
        trial_table(search),
        name=f"search-{search.number}",
        lead=_lead(search),
    )


def _lead(search: Search) -> str:
    ways = " and ".join(
        f"{each.name} ({'less' if each.smaller_is_better else 'more'} is better)"
        for each in search.objectives
    )
    drawn = len(search.drawn)
    some = (
        f" The charts show {drawn} trials, the best among them."
        if drawn < len(search.trials)
        else ""
    )
    return f"{counted(len(search.parameters), 'hyperparameter')}, searched for {ways}.{some}"


def _tiles(search: Search) -> Markup:
    best, objective = next(iter(search.completed), None), search.objectives[0]
    running = sum(each.status == "RUNNING" for each in search.trials)
    ends = [each.ended_s for each in search.trials if each.ended_s is not None]
    costs = [each.cost for each in search.trials if each.cost is not None]
    return tiles(
        (len(search.trials), "trials" + (f", {running} running" if running else "")),
        (len(search.failed), "of them failed"),
        (short(best.objective or 0.0, 6), f"best {objective.name}, trial {best.name}")
        if best
        else None,
        (duration(max(ends) - search.first_s), "from the first trial to the last")
        if ends and search.first_s is not None
        else None,
        (short(math.fsum(costs)), f"{search.cost} of all trials") if costs else None,
    )


def _best(search: Search) -> Markup | None:
    """The best trial's values as Python code."""
    best = next(iter(search.completed), None)
    if best is None:
        return None
    inner = "".join(f"    {name!r}: {_literal(value)},\n" for name, value in best.values.items())
    code = f"# {search.describe(best)}\nbest = {{\n{inner}}}"
    title = element("h4", f"Hyperparameters of the best trial, {best.name}")
    return element("div", title, element("pre", code), class_="card", data_key=search.key(best))


def _literal(value: Any) -> str:
    return repr(value)

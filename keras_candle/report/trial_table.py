"""The sortable table of all trials."""

from __future__ import annotations

from collections.abc import Callable

from keras_candle.report.importance import by_importance
from keras_candle.report.layout import (
    NOTHING,
    Cell,
    LayoutRow,
    number_cell,
    subsection,
    table,
    text_cell,
)
from keras_candle.report.markup import Markup
from keras_candle.report.quantities import counted, duration, short
from keras_candle.report.reading import number
from keras_candle.report.scales import value_text
from keras_candle.report.trials import FAILED, ReportedTrial, Search

_CellOf = Callable[[ReportedTrial], Cell]
_MOST = 5000


def trial_table(search: Search) -> Markup:
    """Return a table of the trials, the best first, those without a result last."""
    if not search.trials:
        return Markup("")
    best = search.completed
    unfinished = [each for each in search.trials if each.objective is None]
    trials = [*best, *unfinished]
    names = [each.name for each in by_importance(search)]
    measured = _measured(search)
    columns = _columns(search)
    head = ["trial", "status", *[name for name, _ in columns], *names, *measured]
    if search.failed:
        head.append("error")
    rows = [
        LayoutRow(
            [
                text_cell(each.name),
                _status(each),
                *[cell(each) for _, cell in columns],
                *[_value(each, name) for name in names],
                *[number_cell(each.measured.get(name)) for name in measured],
                *([text_cell(each.message, 90)] if search.failed else []),
            ],
            search.key(each),
        )
        for each in trials[:_MOST]
    ]
    left_out = f" {len(trials) - _MOST} of them are left out." if len(trials) > _MOST else ""
    return subsection(
        f"All {counted(len(trials), 'trial')}",
        table(head, rows, sortable=True, name=f"trials-{search.number}"),
        lead="A click on a column's head sorts, a click on a trial marks it in all charts."
        + left_out,
    )


def _columns(search: Search) -> list[tuple[str, _CellOf]]:
    """The columns that any search may have, if this one has them."""

    def objective(place: int) -> _CellOf:
        return lambda each: _objective(each.objectives[place])

    def took(each: ReportedTrial) -> Cell:
        if each.started_s is None or each.ended_s is None:
            return number_cell(None)
        return number_cell(each.ended_s - each.started_s, duration(each.ended_s - each.started_s))

    columns = [(each.name, objective(place)) for place, each in enumerate(search.objectives)]
    optional: list[tuple[str, _CellOf]] = [
        (search.cost, lambda each: number_cell(each.cost)),
        ("time", took),
        ("group", lambda each: number_cell(each.group)),
        ("subspace", lambda each: number_cell(each.subspace)),
    ]
    columns += [
        (name, cell)
        for name, cell in optional
        if any(cell(each).value is not None for each in search.trials)
    ]
    return columns


def _objective(value: float | None) -> Cell:
    """An objective with more digits, as the best ones are close together."""
    return number_cell(value, None if value is None else short(value, 6))


def _measured(search: Search) -> list[str]:
    known = {search.cost, "cost", *[each.name for each in search.objectives]}
    found = dict.fromkeys(name for each in search.trials for name in each.measured)
    return [name for name in found if name not in known]


def _status(trial: ReportedTrial) -> Cell:
    return Cell(trial.status.lower(), style="bad" if trial.status == FAILED else None)


def _value(trial: ReportedTrial, name: str) -> Cell:
    if name not in trial.values:
        return Cell(NOTHING, title="not active in this trial")
    value = trial.values[name]
    as_number = number(value)
    if as_number is None:
        return text_cell(value_text(value)) if value is None else text_cell(value, 40)
    return number_cell(as_number, str(value) if isinstance(value, int) else short(as_number))

"""The values of a search that the page shows in tables: its subspaces, and its best trial."""

from collections import defaultdict
from typing import NamedTuple

from keras_candle.report.trials import ReportedTrial, Search


class Subspace(NamedTuple):
    """What became of a subspace: its trials, and its part of the budget."""

    number: int
    name: str
    trials: list[ReportedTrial]
    failed: int
    best: ReportedTrial | None
    new_bests: int
    share: float


def grouped(trials: list[ReportedTrial], by: str) -> dict[int, list[ReportedTrial]]:
    """Return trials by their "group" or "subspace"; those without one are left out."""
    found: dict[int, list[ReportedTrial]] = defaultdict(list)
    for each in trials:
        if (number := getattr(each, by)) is not None:
            found[number].append(each)
    return dict(sorted(found.items()))


def subspaces(search: Search) -> list[Subspace]:
    """Return the subspaces into which the space was cut; none if it was not."""
    budget, failed = _budget(search), {each.name for each in search.failed}
    new_bests = {each.name for each in search.new_bests(search.ended)}
    first = {each.subspace: each for each in reversed(search.completed)}
    found = []
    for number, trials in grouped(search.trials, "subspace").items():
        name, names = (
            "whole space" if number < 0 else f"subspace {number}",
            {t.name for t in trials},
        )
        share = sum(budget.get(each, 0.0) for each in names) / (sum(budget.values()) or 1.0)
        counts = len(names & failed), first.get(number), len(names & new_bests)
        found.append(Subspace(number, name, trials, *counts, share))
    return found if len(found) > 1 else []


def _budget(search: Search) -> dict[str, float]:
    """Each trial's part of the budget: its cost if all have one, else its time, else 1."""
    ended = search.ended
    budgets = ([each.cost for each in ended], [each.took_s for each in ended], [1.0] * len(ended))
    chosen = next(each for each in budgets if None not in each)
    return {each.name: max(own or 0.0, 0.0) for each, own in zip(ended, chosen, strict=True)}


def best_as_code(search: Search) -> str:
    """Return the best trial's hyperparameters as Python code; empty without a result."""
    if search.best is None:
        return ""
    inner = "".join(f"    {name!r}: {value!r},\n" for name, value in search.best.values.items())
    return f"# {search.describe(search.best)}\nbest = {{\n{inner}}}"

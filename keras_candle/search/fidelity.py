"""Multi-fidelity: choose the trials to train further, as functions of all trainings so far.

Asynchronous successive halving (Li et al., A System for Massively Parallel Hyperparameter Tuning,
2020) in the brackets of Hyperband (Li et al., 2018). A trial is trained to the first rung of its
bracket; the best of a rung are trained on, from their checkpoints, to the next. No worker waits for
a rung to be full, and each worker decides on its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from keras_candle.errors import SearchError


@dataclass(frozen=True)
class RungTraining:
    """A trial's training up to one rung.

    Attributes:
        trial: its name.
        rung: the number of the rung, from 0.
        objective: at the rung's end, to be minimised; NaN where the training failed; None while it
            runs.
        subspace: the subspace that the trial belongs to; -1: none.
        bracket: of the trial; bracket b begins at rung b.
    """

    trial: str
    rung: int
    objective: float | None
    subspace: int = -1
    bracket: int = 0


@dataclass(frozen=True)
class Promotion:
    """The promotion of a trial to its next rung.

    Attributes:
        trial: its name.
        rung: the rung to train it to.
        initial_epoch: the epochs trained so far, as in its checkpoint.
        epochs: the total epochs at the new rung.
        subspace: of the trial.
        bracket: of the trial.
    """

    trial: str
    rung: int
    initial_epoch: int
    epochs: int
    subspace: int = -1
    bracket: int = 0


def rungs(max_epochs: int, eta: float = 3, min_epochs: int = 1) -> tuple[int, ...]:
    """Return the epochs of each rung, growing by a factor of eta up to max_epochs.

    Args:
        max_epochs: of a full training.
        eta: one of eta trials at a rung is promoted.
        min_epochs: the least epochs of the first rung.

    Returns:
        At least one number, ascending.

    Raises:
        SearchError: when a number is out of range.

    Example:
        >>> rungs(30), rungs(100, 4, 5)
        ((1, 3, 10, 30), (6, 25, 100))
    """
    if not 1 <= min_epochs <= max_epochs or not 1 < eta < np.inf:
        raise SearchError(
            f"rungs got max_epochs={max_epochs}, eta={eta} and min_epochs={min_epochs}; expected "
            "eta above 1, and min_epochs from 1 to max_epochs."
        )
    found, epochs = {int(max_epochs)}, max_epochs / eta
    while round(epochs) >= min_epochs:
        found.add(round(epochs))
        epochs /= eta
    return tuple(sorted(found))


def next_bracket(
    trainings: Iterable[RungTraining], epochs: Sequence[int], brackets: int | None = None
) -> int:
    """Return the bracket in which a new trial starts.

    Successive halving alone (brackets=1) loses configurations that learn slowly at first. Each
    further bracket starts one rung higher, with fewer trials, so that all have the same budget.

    Args:
        trainings: all trainings so far.
        epochs: of the rungs.
        brackets: the number of brackets; None: as many as rungs, as in Hyperband.

    Returns:
        The bracket that is furthest behind its part of the budget.

    Raises:
        SearchError: when there are more brackets than rungs.
    """
    count = len(epochs) if brackets is None else brackets
    if not 1 <= count <= len(epochs):
        raise SearchError(
            f"brackets={brackets}, expected a number from 1 to {len(epochs)}, that of the rungs."
        )
    begun = Counter({each.trial: each.bracket for each in trainings}.values())
    # Each rung of a bracket costs about the same: 1/eta of the trials, eta times the epochs.
    budgets = [(begun[b] + 1) * epochs[b] * (len(epochs) - b) for b in range(count)]
    return int(np.argmin(budgets))


def next_promotion(
    trainings: Iterable[RungTraining],
    epochs: Sequence[int],
    eta: float = 3,
    *,
    closing: bool = False,
) -> Promotion | None:
    """Return the next promotion, or None.

    Args:
        trainings: all trainings so far; one for each rung that a trial was trained to.
        epochs: of the rungs.
        eta: one of eta trials at a rung is promoted.
        closing: whether no new trial will start. Then the best of a rung is promoted although
            fewer than eta have reached that rung, so that a search ends with a full training.

    Returns:
        The best promotable trial of the highest rung that has one; None without any.
    """
    kept = list(trainings)
    brackets = sorted({each.bracket for each in kept})
    places = [(rung, bracket) for rung in reversed(range(len(epochs) - 1)) for bracket in brackets]
    for rung, bracket in places:
        chosen = _promotable(_at(kept, rung, bracket), eta)
        promoted = {each.trial for each in _at(kept, rung + 1, bracket)}
        for each in chosen:
            if each.trial not in promoted:
                return _promotion(each, epochs)
    return _last(kept, brackets, epochs) if closing else None


def is_waiting(trainings: Iterable[RungTraining], epochs: Sequence[int]) -> bool:
    """Return whether a running trial may still be needed for the full training of its bracket.

    Args:
        trainings: all trainings so far.
        epochs: of the rungs.

    Returns:
        False when no bracket without a full training has a running trial.
    """
    kept, last = list(trainings), len(epochs) - 1
    lacking = {each.bracket for each in kept} - {
        each.bracket for each in _hopeful(kept) if each.rung == last
    }
    return any(each.objective is None and each.bracket in lacking for each in kept)


def _last(
    trainings: Sequence[RungTraining], brackets: Sequence[int], epochs: Sequence[int]
) -> Promotion | None:
    for bracket in brackets:
        for rung in range(bracket, len(epochs) - 1):
            here = _at(trainings, rung, bracket)
            if any(each.objective is None for each in here):
                break
            above = _at(trainings, rung + 1, bracket)
            failed = {each.trial for each in above}
            left = [each for each in _ranked(here) if each.trial not in failed]
            if left and not _hopeful(above):
                return _promotion(left[0], epochs)
    return None


def _hopeful(trainings: Iterable[RungTraining]) -> list[RungTraining]:
    """The trainings that are running or gave a finite objective."""
    return [each for each in trainings if each.objective is None or np.isfinite(each.objective)]


def _promotable(here: Sequence[RungTraining], eta: float) -> list[RungTraining]:
    """The promotable trials of a rung, the best first.

    They are compared over all subspaces, so that the budget flows to the better subspaces. But
    each subspace with eta trials at the rung keeps its best one; otherwise a subspace in which
    training is only slow at first would never get a full training. That takes no further budget:
    there are at most as many such subspaces as promotions, one for each eta trials.
    """
    ranked = _ranked(here)
    ended = [each for each in here if each.objective is not None]
    places = int(len(ended) / eta)
    trials_of = Counter(each.subspace for each in ended)
    best: dict[int, RungTraining] = {}
    for each in ranked:
        if trials_of[each.subspace] >= eta:
            best.setdefault(each.subspace, each)
    kept = {each.trial for each in best.values()}
    remaining = [each for each in ranked if each.trial not in kept]
    kept |= {each.trial for each in remaining[: max(places - len(kept), 0)]}
    return [each for each in ranked if each.trial in kept]


def _at(trainings: Iterable[RungTraining], rung: int, bracket: int) -> list[RungTraining]:
    return [each for each in trainings if (each.rung, each.bracket) == (rung, bracket)]


def _ranked(here: Iterable[RungTraining]) -> list[RungTraining]:
    """The trainings with a finite objective, the best first; ties by the lower name."""
    numbers = [(each.objective, each.trial, each) for each in here if each.objective is not None]
    finite = [each for each in numbers if np.isfinite(each[0])]
    return [each for _, _, each in sorted(finite, key=lambda each: each[:2])]


def _promotion(training: RungTraining, epochs: Sequence[int]) -> Promotion:
    rung = training.rung
    return Promotion(
        training.trial,
        rung + 1,
        epochs[rung],
        epochs[rung + 1],
        training.subspace,
        training.bracket,
    )

"""Multi-fidelity: asynchronous successive halving, as functions of all trainings so far.

Li et al., A System for Massively Parallel Hyperparameter Tuning, 2020. A trial is trained to the
first rung; the best of a rung are promoted, from their checkpoints, to the next. No worker waits
for a rung to be full, and each worker decides on its own. For Keras Tuner a promotion is a trial
that resumes another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_candle.errors import SearchError
from keras_candle.search.trial_log import TrialRecord

# Keras Tuner's Hyperband writes the same names among the values of a trial.
EPOCHS, INITIAL_EPOCH = "tuner/epochs", "tuner/initial_epoch"
BRACKET, ROUND, PARENT = "tuner/bracket", "tuner/round", "tuner/trial_id"
# The inputs of a decision: all trials; a trial's objective, to be minimised, NaN for a failed one;
# values that other groups have claimed and not written to their journals yet.
HalvingInputs = tuple[
    Iterable[TrialRecord], Callable[[TrialRecord], float], Iterable[dict[str, Any]]
]


@dataclass(frozen=True)
class RungTraining:
    """A trial's training up to one rung.

    Attributes:
        trial: its name.
        rung: the number of the rung, from 0.
        objective: at the rung's end, to be minimised; NaN where the training failed; None while it
            runs.
        subspace: the subspace that the trial belongs to; -1: none.
    """

    trial: str
    rung: int
    objective: float | None
    subspace: int = -1


@dataclass(frozen=True)
class Promotion:
    """The promotion of a trial to its next rung.

    Attributes:
        trial: its name.
        rung: the rung to train it to.
        initial_epoch: the epochs trained so far, as in its checkpoint.
        epochs: the total epochs at the new rung.
        subspace: of the trial.
    """

    trial: str
    rung: int
    initial_epoch: int
    epochs: int
    subspace: int = -1


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
    for rung in reversed(range(len(epochs) - 1)):
        chosen = _promotable(_at(kept, rung), eta)
        promoted = {each.trial for each in _at(kept, rung + 1)}
        for each in chosen:
            if each.trial not in promoted:
                return _promotion(each, epochs)
    return _last(kept, epochs) if closing else None


def is_waiting(trainings: Iterable[RungTraining], epochs: Sequence[int]) -> bool:
    """Return whether a running trial may still be needed for a full training.

    Args:
        trainings: all trainings so far.
        epochs: of the rungs.

    Returns:
        False when there is a full training, or no trial is running.
    """
    kept, last = list(trainings), len(epochs) - 1
    full = any(each.rung == last for each in _hopeful(kept))
    return not full and any(each.objective is None for each in kept)


def _last(trainings: Sequence[RungTraining], epochs: Sequence[int]) -> Promotion | None:
    for rung in range(len(epochs) - 1):
        here = _at(trainings, rung)
        if any(each.objective is None for each in here):
            return None
        above = _at(trainings, rung + 1)
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


def _at(trainings: Iterable[RungTraining], rung: int) -> list[RungTraining]:
    return [each for each in trainings if each.rung == rung]


def _ranked(here: Iterable[RungTraining]) -> list[RungTraining]:
    """The trainings with a finite objective, the best first; ties by the lower name."""
    numbers = [(each.objective, each.trial, each) for each in here if each.objective is not None]
    finite = [each for each in numbers if np.isfinite(each[0])]
    return [each for _, _, each in sorted(finite, key=lambda each: each[:2])]


def _promotion(training: RungTraining, epochs: Sequence[int]) -> Promotion:
    rung = training.rung
    return Promotion(training.trial, rung + 1, epochs[rung], epochs[rung + 1], training.subspace)


class Halving:
    """Chooses promotions, and the epochs of new trials.

    Args:
        max_epochs: of a full training.
        eta: one of eta trials at a rung is promoted.
        min_epochs: of the first rung.
    """

    def __init__(self, max_epochs: int, eta: float, min_epochs: int) -> None:
        self.epochs = rungs(max_epochs, eta, min_epochs)
        self._eta = eta

    def is_closing(self, left: int | None) -> bool:
        """Return whether the remaining trials are needed to train the best one in full."""
        return left is not None and left < len(self.epochs)

    def is_waiting(
        self,
        records: Iterable[TrialRecord],
        objective: Callable[[TrialRecord], float],
        taken: Iterable[dict[str, Any]],
    ) -> bool:
        """Return whether a running trial may have to be trained in full; see `is_waiting`.

        Args:
            records: of all trials.
            objective: returns a trial's objective, to be minimised; NaN for a failed trial.
            taken: values that other groups have claimed and not written to their journals yet.
        """
        known = {each.trial_id: each for each in records}
        return is_waiting(self.trainings(known, objective, taken), self.epochs)

    def promotion(
        self,
        records: Iterable[TrialRecord],
        objective: Callable[[TrialRecord], float],
        taken: Iterable[dict[str, Any]],
        *,
        closing: bool,
    ) -> tuple[dict[str, Any], int, bytes] | None:
        """Return the next promotion as the values of a new trial.

        Args:
            records: of all trials.
            objective: returns a trial's objective, to be minimised; NaN for a failed trial.
            taken: values that other groups have claimed and not written to their journals yet.
            closing: whether no new trial will start.

        Returns:
            Its values, its subspace, and a unique key; None when no trial can be promoted.
        """
        known = {each.trial_id: each for each in records}
        trainings = self.trainings(known, objective, taken)
        found = next_promotion(trainings, self.epochs, self._eta, closing=closing)
        if found is None:
            return None
        parent = self._parent(known, found)
        values = {
            **parent.values,
            EPOCHS: found.epochs,
            INITIAL_EPOCH: found.initial_epoch,
            ROUND: found.rung,
            PARENT: parent.trial_id,
        }
        return values, found.subspace, f"promotion {found.trial} {found.rung}".encode()

    def first_values(self) -> dict[str, Any]:
        """Return the epochs and rung of a new trial, as Hyperband's values."""
        return {EPOCHS: self.epochs[0], INITIAL_EPOCH: 0, BRACKET: 0, ROUND: 0}

    def trainings(
        self,
        known: dict[str, TrialRecord],
        objective: Callable[[TrialRecord], float],
        taken: Iterable[dict[str, Any]],
    ) -> list[RungTraining]:
        """Return all trainings; a promoted trial has the name of the first trial of its chain."""
        found = [
            RungTraining(
                _first(known, each.trial_id),
                each.values[ROUND],
                None if each.end is None else objective(each),
                each.subspace,
            )
            for each in known.values()
        ]
        begun = {(each.values.get(PARENT), each.values[ROUND]) for each in known.values()}
        for values in taken:
            if values.get(PARENT) in known and (values[PARENT], values[ROUND]) not in begun:
                first = _first(known, values[PARENT])
                found.append(RungTraining(first, values[ROUND], None))
        return found

    def _parent(self, known: dict[str, TrialRecord], found: Promotion) -> TrialRecord:
        return next(
            each
            for each in known.values()
            if each.values[ROUND] == found.rung - 1 and _first(known, each.trial_id) == found.trial
        )


def fidelity_of(values: dict[str, Any], max_epochs: int | None) -> float:
    """Return the fidelity of a trial: the part of a full training that it gets."""
    return 1.0 if max_epochs is None else float(values[EPOCHS]) / max_epochs


def _first(known: dict[str, TrialRecord], trial_id: str) -> str:
    while (parent := known[trial_id].values.get(PARENT)) in known:
        trial_id = str(parent)
    return trial_id

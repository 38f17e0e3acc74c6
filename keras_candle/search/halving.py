"""Successive halving on Keras Tuner's trials: a promotion is a trial that resumes another."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from keras_candle.search.fidelity import (
    Promotion,
    RungTraining,
    is_waiting,
    next_bracket,
    next_promotion,
    rungs,
)
from keras_candle.search.trial_log import TrialRecord

# Keras Tuner's Hyperband writes the same names among the values of a trial.
EPOCHS, INITIAL_EPOCH = "tuner/epochs", "tuner/initial_epoch"
BRACKET, ROUND, PARENT = "tuner/bracket", "tuner/round", "tuner/trial_id"
# The inputs of a decision: all trials; a trial's objective, to be minimised, NaN for a failed one;
# values that other groups have claimed and not written to their journals yet.
HalvingInputs = tuple[
    Iterable[TrialRecord], Callable[[TrialRecord], float], Iterable[dict[str, Any]]
]


class Halving:
    """Chooses promotions, and the epochs of new trials.

    Args:
        max_epochs: of a full training.
        eta: one of eta trials at a rung is promoted.
        min_epochs: of the first rung.
        brackets: see `fidelity.next_bracket`.
    """

    def __init__(self, max_epochs: int, eta: float, min_epochs: int, brackets: int | None) -> None:
        self.epochs = rungs(max_epochs, eta, min_epochs)
        self._eta, self._brackets = eta, brackets

    def is_closing(self, left: int | None) -> bool:
        """Return whether the remaining trials are needed to train the best one in full."""
        return left is not None and left < len(self.epochs)

    def is_waiting(
        self,
        records: Iterable[TrialRecord],
        objective: Callable[[TrialRecord], float],
        taken: Iterable[dict[str, Any]],
    ) -> bool:
        """Return whether a running trial may have to be trained in full; see `fidelity.is_waiting`.

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

    def first_values(self, records: Iterable[TrialRecord]) -> dict[str, Any]:
        """Return the epochs, bracket and rung of a new trial, as Hyperband's values."""
        known = {each.trial_id: each for each in records}
        trainings = self.trainings(known, lambda _: 0.0, ())
        bracket = next_bracket(trainings, self.epochs, self._brackets)
        return {
            EPOCHS: self.epochs[bracket], INITIAL_EPOCH: 0, BRACKET: bracket, ROUND: bracket,
        }  # fmt: skip

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
                each.values[BRACKET],
            )
            for each in known.values()
        ]
        begun = {(each.values.get(PARENT), each.values[ROUND]) for each in known.values()}
        for values in taken:
            if values.get(PARENT) in known and (values[PARENT], values[ROUND]) not in begun:
                first = _first(known, values[PARENT])
                found.append(RungTraining(first, values[ROUND], None, bracket=values[BRACKET]))
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

"""The options of a search beyond Keras Tuner's own arguments, validated."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import keras_tuner

from keras_candle.errors import SearchError
from keras_candle.keras_private.keras_tuner import MultiObjective, create_objective
from keras_candle.metric_directions import direction_of
from keras_candle.search.candidates import SEARCHES
from keras_candle.search.fidelity import next_bracket, rungs

# Measured of each trial, and so usable as an objective, a cost or an axis of the front.
MEASURES = ("device_seconds", "peak_memory_bytes", "parameters", "prediction_latency_s")
COST = "cost"


@dataclass(frozen=True)
class SearchOptions:
    """The options of a search.

    Attributes:
        subspaces: the number of subspaces; None: one for each group, up to 64, and with fewer than
            four groups one for all.
        overlap: of neighbouring subspaces, as a part of the range that is cut.
        search: "subspaces" (a surrogate, subspaces, trust regions) or "random".
        cost: the measured quantity that is the cost: "device_seconds", "peak_memory_bytes",
            "parameters" or "prediction_latency_s".
        max_cost: the limit of a trial's cost; None: no limit.
        per_cost: whether to divide expected improvement by the cost, so that cheap good trials
            come first.
        lease_s: another group runs a trial again whose process gave no heartbeat for this long.
        max_epochs: successive halving: trials start with `min_epochs` or somewhat more, and the
            best of `eta` trials at a rung is promoted, up to `max_epochs`. Each promotion is one
            of `max_trials`. None: every trial is trained for the `epochs` of `search()`.
        min_epochs: of the first rung.
        eta: the factor between rungs.
        brackets: 1 or more; None: as many as in Hyperband. Each starts one rung higher.
        stop_hopeless: whether `CandleTuner` stops a trial whose learning curve predicts that it
            will not beat the best. For a single objective that is in each epoch's logs; otherwise
            no trial is stopped.
        inherit_weights: whether a trial starts with the weights of the one that differs least, in
            those layers whose names and shapes agree.

    Raises:
        SearchError: for a value out of range.
    """

    subspaces: int | None = None
    overlap: float = 0.25
    search: str = "subspaces"
    cost: str = "device_seconds"
    max_cost: float | None = None
    per_cost: bool = False
    lease_s: float = 60.0
    max_epochs: int | None = None
    min_epochs: int = 1
    eta: float = 3
    brackets: int | None = 1
    stop_hopeless: bool = False
    inherit_weights: bool = False

    def __post_init__(self) -> None:
        for name in ("subspaces", "max_epochs", "brackets"):
            check_count(name, getattr(self, name))
        if not (_is_number(self.overlap) and 0 <= self.overlap < 1):
            raise SearchError(f"overlap={self.overlap!r}, expected a number from 0 to below 1.")
        for name, value, choices in (
            ("search", self.search, SEARCHES),
            ("cost", self.cost, MEASURES),
        ):
            if value not in choices:
                listed = ", ".join(map(repr, choices))
                raise SearchError(f"{name}={value!r}, expected one of {listed}.")
        if not _is_count(self.min_epochs):
            raise SearchError(f"min_epochs={self.min_epochs!r}, expected a whole number from 1.")
        if not (_is_number(self.eta) and 1 < self.eta < math.inf):
            raise SearchError(f"eta={self.eta!r}, expected a number above 1, such as 3.")
        if self.max_epochs is not None:
            next_bracket((), rungs(self.max_epochs, self.eta, self.min_epochs), self.brackets)
        for name in ("max_cost", "lease_s"):
            number = getattr(self, name)
            if number is not None and not (_is_number(number) and number > 0):
                raise SearchError(f"{name}={number!r}, expected a number above 0.")

    def identity(self) -> dict[str, Any]:
        """Return the options that a resumed search must repeat: the cost, and the rungs."""
        found: dict[str, Any] = {"cost": self.cost, "max_epochs": self.max_epochs}
        if self.max_epochs is not None:
            eta = int(self.eta) if self.eta == int(self.eta) else float(self.eta)
            found.update(max_epochs=int(self.max_epochs), min_epochs=int(self.min_epochs), eta=eta)
        return found

    def check_epochs(self, fit_kwargs: Mapping[str, Any]) -> None:
        """Refuse `epochs` where `max_epochs` sets the length of trials.

        Args:
            fit_kwargs: the keyword arguments for `fit`.

        Raises:
            SearchError: when both are given.
        """
        if self.max_epochs is not None and fit_kwargs.get("epochs"):
            raise SearchError(
                f"search() got epochs={fit_kwargs['epochs']}, but max_epochs={self.max_epochs} "
                "sets how long trials are trained. Leave epochs out."
            )


class SeveralObjectives(MultiObjective):  # type: ignore[misc]
    """Several objectives, of which those measured at a trial's end are in no epoch's logs."""

    def has_value(self, logs: Any) -> bool:
        """Return whether an epoch's logs have at least one of the objectives, to compare epochs."""
        return any(name in logs for name in self.name_to_direction)


def make_objective(given: Any) -> Any:
    """Return Keras Tuner's objective for the user's argument.

    Args:
        given: a name, a `keras_tuner.Objective`, a list of these, or None. Measured quantities
            (`MEASURES`, and "cost" for the one that `cost=` names) are minimised.

    Returns:
        A `keras_tuner.Objective`; None for None.

    Raises:
        SearchError: when an objective's direction cannot be inferred.
    """
    if isinstance(given, str):
        if given in (COST, *MEASURES):
            return keras_tuner.Objective(given, "min")
        direction = direction_of(given)
        if direction is not None:
            return keras_tuner.Objective(given, direction)
        try:
            return create_objective(given)
        except ValueError as cause:
            raise SearchError(
                f"objective={given!r}: cannot infer whether to minimise or maximise it. Pass "
                f"keras_tuner.Objective({given!r}, direction='min') or 'max', a Keras metric such "
                f"as 'val_loss', or one of {', '.join((COST, *MEASURES))}."
            ) from cause
    if isinstance(given, Sequence):
        if len(given) < 2:
            raise SearchError(f"objective={given!r}, expected at least two in a list.")
        return SeveralObjectives([make_objective(each) for each in given])
    if given is None:
        return None
    if isinstance(given, keras_tuner.Objective):
        for each in parts_of(given):
            if each.direction not in ("min", "max"):
                raise SearchError(
                    f"The objective {each.name!r} has direction={each.direction!r}, expected 'min' "
                    "or 'max'."
                )
        return given
    raise SearchError(f"objective={given!r}, expected a name or a keras_tuner.Objective.")


def parts_of(objective: Any) -> list[Any]:
    """Return the objectives of a `MultiObjective`, or a single objective as a list."""
    return list(getattr(objective, "objectives", [objective]))


def check_count(name: str, given: object, least: int = 1) -> None:
    """Check that an argument is None or a whole number that is large enough.

    Args:
        name: of the argument.
        given: its value.
        least: the smallest valid number.

    Raises:
        SearchError: when it is neither.
    """
    if given is not None and not _is_count(given, least):
        raise SearchError(f"{name}={given!r}, expected a whole number from {least}, or None.")


def _is_count(value: object, least: int = 1) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)

"""The options of a search beyond Keras Tuner's own arguments, validated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from keras_candle.errors import SearchError
from keras_candle.search.candidates import SEARCHES
from keras_candle.search.halving import rungs
from keras_candle.search.objectives import MEASURES


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

    def __post_init__(self) -> None:
        for name in ("subspaces", "max_epochs"):
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
            rungs(self.max_epochs, self.eta, self.min_epochs)
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

"""Settings of the functions that choose a search's points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keras_candle.errors import SearchError
from keras_candle.search.gaussian_process import fit_gaussian_process
from keras_candle.search.random_forest import fit_random_forest

SURROGATES: dict[str, Callable[..., Any]] = {
    "gaussian_process": fit_gaussian_process,
    "random_forest": fit_random_forest,
}


@dataclass(frozen=True)
class CostWeight:
    """The weight of a trial's cost in the acquisition.

    Attributes:
        exponent: the power of the cost that divides the improvement.
        limit: the highest cost; None: no limit.
    """

    exponent: float = 0.0
    limit: float | None = None


@dataclass(frozen=True)
class AskSettings:
    """The settings of a search's decisions.

    Attributes:
        workers: the number of trials that run at once.
        budget: the total number of trials.
        overlap: of the subspaces.
        surrogate: "gaussian_process" or "random_forest".
        cost_exponent: 1.0: expected improvement per unit of cost; 0.0: cost doesn't matter.
        cost_limit: trials should not cost more than this; None: no limit.
    """

    workers: int = 1
    budget: int = 64
    overlap: float = 0.25
    surrogate: str = "gaussian_process"
    cost_exponent: float = 0.0
    cost_limit: float | None = None

    @property
    def cost_weight(self) -> CostWeight:
        """The weight of a trial's cost in the acquisition."""
        return CostWeight(self.cost_exponent, self.cost_limit)

    def __post_init__(self) -> None:
        if self.surrogate not in SURROGATES:
            raise SearchError(
                f"surrogate={self.surrogate!r}, expected one of {sorted(SURROGATES)}."
            )
        if self.workers < 1 or self.budget < 1:
            raise SearchError(
                f"The settings have workers={self.workers} and budget={self.budget}; both must "
                "be at least 1."
            )

"""Settings of the functions that choose a search's points."""

from __future__ import annotations

from dataclasses import dataclass

from keras_candle.errors import SearchError


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
        cost_exponent: 1.0: expected improvement per unit of cost; 0.0: cost doesn't matter.
        cost_limit: trials should not cost more than this; None: no limit.
    """

    workers: int = 1
    budget: int = 64
    overlap: float = 0.25
    cost_exponent: float = 0.0
    cost_limit: float | None = None

    @property
    def cost_weight(self) -> CostWeight:
        """The weight of a trial's cost in the acquisition."""
        return CostWeight(self.cost_exponent, self.cost_limit)

    def __post_init__(self) -> None:
        if self.workers < 1 or self.budget < 1:
            raise SearchError(
                f"The settings have workers={self.workers} and budget={self.budget}; both must "
                "be at least 1."
            )

"""The trials of a search at one moment, as arrays: the only input of a decision."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class History:
    """The trials of a search that have ended, and those that are running.

    Attributes:
        units: float [trials, dimensions], each ended trial's point in the unit cube; NaN where a
            hyperparameter was not active.
        objective: float [trials], to be minimised; NaN where a trial failed.
        cost: float [trials], a trial's cost (device-seconds, by default); NaN where unknown.
        fidelity: float [trials], the part of the full budget that a trial was trained with, in
            (0, 1].
        subspace: int [trials], the subspace that the trial belongs to; -1: none.
        pending: float [running, dimensions], the points of the running trials.
    """

    units: Floats
    objective: Floats
    cost: Floats
    fidelity: Floats
    subspace: NDArray[np.int64]
    pending: Floats

    @classmethod
    def empty(cls, dimensions: int) -> History:
        """Return the history of a search without trials.

        Args:
            dimensions: of the search space.
        """
        none = np.empty(0)
        points = np.empty((0, dimensions))
        return cls(points, none, none, none, np.empty(0, np.int64), points)

    @property
    def succeeded(self) -> NDArray[np.bool_]:
        """Bool [trials]: whether a trial gave a finite objective."""
        return np.isfinite(self.objective)

    def with_pending(self, unit: Floats) -> History:
        """Return a copy with one more running trial.

        Args:
            unit: float [dimensions], its point.
        """
        return replace(self, pending=np.vstack([self.pending, unit]))

    def subset(self, ended: NDArray[np.bool_], running: NDArray[np.bool_]) -> History:
        """Return a copy with some of the trials.

        Args:
            ended: bool [trials], the ended trials to keep.
            running: bool [running], the running trials to keep.
        """
        return History(
            self.units[ended],
            self.objective[ended],
            self.cost[ended],
            self.fidelity[ended],
            self.subspace[ended],
            self.pending[running],
        )

"""Candidates: propose the values of the next trial from the records of all trials."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from keras_candle.search.ask import AskSettings, suggest
from keras_candle.search.hyperparameters import UnitCube
from keras_candle.search.leaderboard import scalarise
from keras_candle.search.space import Floats
from keras_candle.search.subspaces import Subspace, decompose
from keras_candle.search.surrogate_data import History
from keras_candle.search.trial_log import RUNNING, TrialRecord

SEARCHES = ("subspaces", "random")
# `suggest` may propose a point that is taken. It is asked again this often, then a point is drawn
# at random.
_DRAWS = 20
# Points drawn at once, and how often: enough to hit an untried part that is 1/1000 of the space.
_AT_ONCE, _MOST_DRAWS = 16, 1000
# Fewer workers than the first search the whole space together; more than the second share
# subspaces.
_FEW_WORKERS, _MOST_SUBSPACES = 4, 64


@dataclass(frozen=True)
class Candidate:
    """The values of the next trial.

    Attributes:
        values: name to value of the active hyperparameters.
        subspace: the index of the subspace that it comes from; -1: of none.
        key: equal for points of the same trial.
    """

    values: dict[str, Any]
    subspace: int
    key: bytes


class CandidateSource:
    """Proposes the values of trials.

    Args:
        settings: for `suggest`.
        subspaces: the number of subspaces; None: one for each worker, up to 64, and with fewer
            than four workers one for all.
        search: "subspaces" (a surrogate in each) or "random".
        seed: of all draws.

    Attributes:
        seed: of all draws; None until the search's folder is open.
    """

    def __init__(
        self, settings: AskSettings, subspaces: int | None, search: str, seed: int | None
    ) -> None:
        self.settings, self._count, self._search, self.seed = settings, subspaces, search, seed
        self._cube = UnitCube(_Nothing())
        self._hyperparameter_count: int = -1
        self._units: dict[str, Floats] = {}
        self._keys: dict[str, bytes] = {}
        self._threads = ThreadpoolController()

    @property
    def cube(self) -> UnitCube:
        """The current search space as a unit cube."""
        return self._cube

    def set_space(self, hyperparameters: Any) -> UnitCube:
        """Set the current search space.

        Args:
            hyperparameters: a `keras_tuner.HyperParameters`; it may have grown since the last call.
        """
        if len(hyperparameters.space) != self._hyperparameter_count:
            self._cube, self._hyperparameter_count = (
                UnitCube(hyperparameters),
                len(hyperparameters.space),
            )
            self._units, self._keys = {}, {}
        return self._cube

    def subspaces(self) -> tuple[Subspace, ...]:
        """Return the current decomposition of the space."""
        settings = self.settings
        workers = settings.workers
        count = self._count or (1 if workers < _FEW_WORKERS else min(workers, _MOST_SUBSPACES))
        return decompose(self._cube.space, count, settings.overlap, seed=self._known_seed)

    @property
    def _known_seed(self) -> int:
        if self.seed is None:
            raise RuntimeError("The seed is read from the search's folder: call begin() first.")
        return self.seed

    def propose(
        self,
        records: Iterable[TrialRecord],
        objectives: Callable[[TrialRecord], list[float]],
        home: int,
        seeds: tuple[int, ...],
        taken: Iterable[dict[str, Any]] = (),
    ) -> Candidate | None:
        """Propose the values of the next trial.

        Args:
            records: of all trials.
            objectives: returns a trial's objectives, each to be minimised; NaN for a failed trial.
            home: the number of the group that asks.
            seeds: of this trial's draws, in addition to the search's seed.
            taken: values that other groups have claimed and not written to their journals yet.

        Returns:
            The candidate; None when every point of a finite space was tried.
        """
        rng = np.random.default_rng([self._known_seed, *seeds])
        kept = list(records)
        for each in kept:
            if each.trial_id not in self._keys:
                self._keys[each.trial_id] = self._key(each.values)
        tried = set(self._keys.values())
        claimed = {self._key(values): values for values in taken}
        claimed = {key: values for key, values in claimed.items() if key not in tried}
        tried |= claimed.keys()
        if self._search == "random":
            return self._draw(tried, rng)
        history = self.history(kept, objectives, rng)
        for values in claimed.values():
            history = history.with_pending(self._cube.unit_of(values))
        for _ in range(_DRAWS):
            found = self._ask(history, home, rng)
            if found is None:
                return None
            values = self._cube.values_of(found[0])
            key = self._key(values)
            if key not in tried:
                return Candidate(values, found[1], key)
            history = history.with_pending(self._cube.unit_of(values))
        return self._draw(tried, rng)

    def _ask(
        self, history: History, home: int, rng: np.random.Generator
    ) -> tuple[Floats, int] | None:
        space = self._cube.space
        if not space.dimensions:
            return None if len(history.units) or len(history.pending) else (np.empty(0), -1)
        cut = self.subspaces()
        # On matrices of this size a second thread costs more than it saves.
        with self._threads.limit(limits=1, user_api="blas"):
            made = suggest(space, history, cut, home % len(cut), self.settings, rng)
        return None if made is None else (made.unit, made.subspace)

    def _draw(self, tried: set[bytes], rng: np.random.Generator) -> Candidate | None:
        """A random point that was not tried; None when there is none."""
        space = self._cube.space
        for _ in range(_DRAWS if space.count is not None else _MOST_DRAWS):
            found = self._first_untried(rng.random((_AT_ONCE, len(space))), tried)
            if found is not None:
                return found
        if space.count is None:
            return None
        points = space.all_points()
        left = points[[key not in tried for key in space.keys(points)]]
        return self._first_untried(rng.permutation(left), tried)

    def _first_untried(self, units: Floats, tried: set[bytes]) -> Candidate | None:
        for unit in self._cube.space.canonical(units):
            values = self._cube.values_of(unit)
            key = self._key(values)
            if key not in tried:
                return Candidate(values, -1, key)
        return None

    def _key(self, values: dict[str, Any]) -> bytes:
        return self._cube.space.key(self._cube.unit_of(values))

    def history(
        self,
        records: list[TrialRecord],
        objectives: Callable[[TrialRecord], list[float]],
        rng: np.random.Generator,
    ) -> History:
        """Return the records of all trials as arrays.

        Args:
            records: of all trials.
            objectives: returns a trial's objectives, each to be minimised; NaN for a failed trial.
            rng: draws the weights of several objectives.
        """
        ended = [each for each in records if each.end is not None]
        running = [each for each in records if each.end is None]
        values = [objectives(each) for each in ended]
        several = bool(values) and len(values[0]) > 1
        whole = scalarise(np.array(values), rng) if several else np.ravel(values)
        return History(
            units=self._points(ended),
            objective=np.asarray(whole, float),
            cost=np.array([(each.end or {}).get("cost", np.nan) for each in ended], float),
            fidelity=np.array([(each.end or {}).get("fidelity", 1.0) for each in ended], float),
            subspace=np.array([each.subspace for each in ended], np.int64),
            pending=self._points([each for each in running if each.status == RUNNING]),
        )

    def _points(self, records: list[TrialRecord]) -> Floats:
        for each in records:
            if each.trial_id not in self._units:
                self._units[each.trial_id] = self._cube.unit_of(each.values)
        points = [self._units[each.trial_id] for each in records]
        return np.array(points, float).reshape(len(records), len(self._cube.space.dimensions))


class _Nothing:
    space: tuple[()] = ()

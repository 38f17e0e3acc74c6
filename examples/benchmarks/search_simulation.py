"""Workers that search together, on a simulated clock."""

from __future__ import annotations

import heapq
import time
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from examples.benchmarks.search_functions import Problem

Floats = NDArray[np.float64]
# The spread of the logarithm of a trial's duration.
SPREAD = 0.4


class Searcher(Protocol):
    """Whatever can be asked for points and told their values."""

    def ask(self, worker: int) -> tuple[Any, Floats]:
        """A trial of its own kind, and its point in the unit cube."""

    def tell(self, trial: Any, value: float) -> None:
        """The value of a trial that was asked for, to be minimised."""


@dataclass(frozen=True)
class Run:
    """What a search gave.

    Attributes:
        regret: float [evaluations], the best value so far, less the minimum.
        suggestion_s: processor seconds for each suggestion, in the mean.
    """

    regret: Floats
    suggestion_s: float


def simulate(searcher: Searcher, problem: Problem, workers: int, budget: int, seed: int) -> Run:
    """Let workers search until so many trials have ended.

    A trial lasts a log-normal time, all start at once, and a worker asks again as soon as its
    trial has ended, while the others' are still running.

    Args:
        searcher: that all workers ask.
        problem: to be solved.
        workers: how many trials run at once.
        budget: evaluations of all workers together.
        seed: of the durations.
    """
    random = np.random.default_rng([seed, 7])
    running: list[tuple[float, int, int, Any, Floats]] = []
    values: list[float] = []
    spent, asked = 0.0, 0

    def start(worker: int, now: float) -> None:
        nonlocal spent, asked
        began = time.process_time()
        trial, unit = searcher.ask(worker)
        spent += time.process_time() - began
        ends = now + float(random.lognormal(sigma=SPREAD))
        heapq.heappush(running, (ends, asked, worker, trial, unit))
        asked += 1

    for worker in range(min(workers, budget)):
        start(worker, 0.0)
    while running:
        now, _, worker, trial, unit = heapq.heappop(running)
        values.append(problem.value(unit))
        searcher.tell(trial, values[-1])
        if asked < budget:
            start(worker, now)
    return Run(np.minimum.accumulate(values) - problem.minimum, spent / asked)

"""The search against others at the same number of evaluations.

    python -m examples.benchmarks.search [--suite NAME]... [--functions NAME]... [--seeds 10]
                                         [--json FILE]

Each line is a function: the median regret over the seeds of our search and of its peer, and the
ratio of the two; then what is asked. Both sides see the same simulated clock. Suites:
asynchronous, gp_sampler, small, sequential, many, bbob (needs coco-experiment) and cost (seconds of
one suggestion). Peers need optuna, torch (for Optuna's GPSampler) and keras-tuner. With --json
results are kept in a file, and a run that is there already isn't made again. With the option
--functions only those are run; the others' lines are left out.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.benchmarks.claims import claim
from examples.benchmarks.search_cost import measure_cost
from examples.benchmarks.search_functions import PROBLEMS, Problem, bbob
from examples.benchmarks.search_peers import make_peer
from examples.benchmarks.search_simulation import Searcher, simulate
from keras_candle.search.ask import AskSettings, suggest
from keras_candle.search.space import Dimension, SearchSpace
from keras_candle.search.subspaces import decompose
from keras_candle.search.surrogate_data import History

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """A peer, and what is asked of us against it.

    Attributes:
        peer: its name.
        ratio: of the medians, at most; None: none is asked.
        functions: for how many functions.
        never: the ratio that no function may pass.
        worst: whether our worst seed must not pass the peer's median.
        evaluations: how many times ours the peer is given.
    """

    peer: str
    ratio: float = 1.0
    functions: int = 0
    never: float = np.inf
    worst: bool = False
    evaluations: int = 1


@dataclass(frozen=True)
class Suite:
    """A size of search, the functions, and the peers."""

    workers: int
    budget: int
    functions: tuple[str, ...]
    comparisons: tuple[Comparison, ...]


ALL = tuple(PROBLEMS)
FEW = ("branin", "hartmann6", "styblinski5", "ackley5")
HARD = ("styblinski5", "ackley5", "rastrigin5")
SUITES = {
    "asynchronous": Suite(
        32,
        512,
        ALL,
        (
            Comparison("tpe", 0.5, 5, never=1.1, worst=True),
            Comparison("hyperspace", 0.4, 6),
            Comparison("hyperspace", 1.0, 7, evaluations=3),
        ),
    ),
    "gp_sampler": Suite(32, 256, HARD, (Comparison("gp_sampler", 0.5, 3),)),
    "small": Suite(8, 64, ALL, (Comparison("tpe", 1.0, 7),)),
    "sequential": Suite(
        1, 64, FEW, (Comparison("keras_tuner", 1.0, 4), Comparison("gp_sampler", 1.0, 4))
    ),
    "many": Suite(128, 1024, ALL, (Comparison("tpe", 1.0, 7),)),
    "bbob": Suite(32, 256, (), (Comparison("tpe", 1.0, 0),)),
}


class OurSearch:
    """The search of keras_candle, each worker deciding for itself from what is known."""

    def __init__(self, dimensions: int, workers: int, budget: int, seed: int) -> None:
        self._space = SearchSpace([Dimension(f"x{number}") for number in range(dimensions)])
        self._settings = AskSettings(workers=workers, budget=budget)
        # As many subspaces as workers; for few workers the whole space is one.
        self._subspaces = decompose(self._space, 1 if workers < 4 else min(workers, 64))
        self._seed, self._asked = seed, 0
        self._units: list[Floats] = []
        self._values: list[float] = []
        self._owners: list[int] = []
        self._pending: dict[int, Floats] = {}

    def ask(self, worker: int) -> tuple[Any, Floats]:
        shape = (-1, len(self._space))
        count = len(self._values)
        history = History(
            np.array(self._units).reshape(shape),
            np.array(self._values),
            np.full(count, np.nan),
            np.ones(count),
            np.array(self._owners, np.int64),
            np.array(list(self._pending.values())).reshape(shape),
        )
        rng = np.random.default_rng([self._seed, worker, self._asked])
        home = worker % len(self._subspaces)
        made = suggest(self._space, history, self._subspaces, home, self._settings, rng)
        if made is None:
            raise RuntimeError("A continuous space cannot be exhausted.")
        number, self._asked = self._asked, self._asked + 1
        self._pending[number] = made.unit
        return (number, made.subspace), made.unit

    def tell(self, trial: Any, value: float) -> None:
        number, owner = trial
        self._units.append(self._pending.pop(number))
        self._values.append(value)
        self._owners.append(owner)


class Results:
    """Final regrets of runs, kept in a file where one is named."""

    def __init__(self, path: str | None) -> None:
        self._path = Path(path) if path else None
        self._known: dict[str, float] = {}
        if self._path and self._path.exists():
            self._known = json.loads(self._path.read_text())

    def regret(self, name: str, problem: Problem, workers: int, budget: int, seed: int) -> float:
        """Of one run, which is made if it isn't known."""
        key = f"{name} {problem.name} {workers} {budget} {seed}"
        if key not in self._known:
            size = problem.dimensions, workers, budget, seed
            searcher: Searcher
            searcher = OurSearch(*size) if name == "ours" else make_peer(name, *size)
            run = simulate(searcher, problem, workers, budget, seed)
            self._known[key] = float(run.regret[-1])
            if self._path:
                draft = self._path.with_suffix(".draft")
                draft.write_text(json.dumps(self._known, indent=0))
                os.replace(draft, self._path)
        return self._known[key]


def compare(name: str, suite: Suite, chosen: list[str], seeds: int, results: Results) -> None:
    """Run a suite and print its table."""
    problems = bbob() if name == "bbob" else PROBLEMS
    functions = [each for each in suite.functions or problems if not chosen or each in chosen]
    print(f"\n{name}: {suite.workers} workers, {suite.budget} evaluations, {seeds} seeds")

    def regrets(searcher: str, function: str, budget: int) -> Floats:
        size = suite.workers, budget
        found = [results.regret(searcher, problems[function], *size, s) for s in range(seeds)]
        return np.array(found)

    ours = {each: regrets("ours", each, suite.budget) for each in functions}
    for asked in suite.comparisons:
        budget = suite.budget * asked.evaluations
        size = f"{suite.workers} workers, {suite.budget} evaluations, {seeds} seeds"
        if budget != suite.budget:
            size += f", {asked.peer} {budget}"
        ratios, worst = [], []
        for each in functions:
            peer = float(np.median(regrets(asked.peer, each, budget)))
            found = claim(
                f"{each}: median regret, {size}",
                float(np.median(ours[each])),
                peer=(asked.peer, peer),
            )
            ratios.append(found.ratio)
            worst.append(float(ours[each].max()) / peer)
        _claim_verdict(asked, np.array(ratios), np.array(worst))


def _claim_verdict(asked: Comparison, ratios: Floats, worst: Floats) -> None:
    within = int((ratios <= asked.ratio).sum())
    # Where only some functions are run the number that is asked for says nothing.
    least = asked.functions if 0 < asked.functions <= len(ratios) else None
    what = f"functions of {len(ratios)} with at most {asked.ratio:g} times {asked.peer}'s median"
    claim(what, within, at_least=least)
    if np.isfinite(asked.never):
        claim(f"highest ratio to {asked.peer}'s median", float(ratios.max()), at_most=asked.never)
    if asked.worst:
        claim(f"our worst seed by {asked.peer}'s median", float(worst.max()), at_most=1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--suite", action="append", choices=[*SUITES, "cost"], default=[])
    parser.add_argument("--functions", action="append", default=[])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--json", help="a file for the results, which are used again")
    options = parser.parse_args()
    results = Results(options.json)
    for name in options.suite or [*SUITES, "cost"]:
        if name == "cost":
            measure_cost()
        else:
            compare(name, SUITES[name], options.functions, options.seeds, results)


if __name__ == "__main__":
    main()

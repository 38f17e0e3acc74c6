"""What one suggestion costs, in processor seconds, against Keras Tuner's."""

from __future__ import annotations

import tempfile
import time
import warnings

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from examples.benchmarks.claims import claim
from examples.benchmarks.search_functions import hartmann6
from keras_candle.search.acquisition import forget_stages
from keras_candle.search.ask import AskSettings, suggest
from keras_candle.search.space import Dimension, SearchSpace
from keras_candle.search.subspaces import decompose
from keras_candle.search.surrogate_data import History

Floats = NDArray[np.float64]
REPEATS = 5


def measure_cost() -> None:
    """Print medians of ours, as a worker just started and one that goes on, and of the peer's.

    On one thread each, as `CandleTuner` does it: with more, small matrices take longer.
    """
    import scipy.linalg  # noqa: F401 - what is not loaded yet cannot be limited

    with threadpool_limits(1):
        _compare()


def _compare() -> None:
    for count, dimensions, asked in ((64, 6, 20), (800, 6, 100)):
        units, values = _trials(count, dimensions)
        first, later = (cost_of_ours(units, values, forget=forget) for forget in (True, False))
        peer = cost_of_keras_tuner(units, values)
        for which, ours in (("first", first), ("later", later)):
            claim(
                f"a worker's {which} suggestion at {count} trials",
                1000 * ours,
                "ms",
                peer=("Keras Tuner", 1000 * peer),
                at_most=1 / asked,
            )
    units, values = _trials(2_000, 20)
    for workers in (1, 32):
        first, later = (
            cost_of_ours(units, values, workers, forget=forget) for forget in (True, False)
        )
        what = f"suggestion at 2000 trials in 20 dimensions, {workers} workers"
        claim(f"a worker's first {what}", 1000 * first, "ms", at_most=100)
        claim(f"a worker's later {what}", 1000 * later, "ms", at_most=100)


def cost_of_ours(units: Floats, values: Floats, workers: int = 1, *, forget: bool = True) -> float:
    """The median over some suggestions.

    Args:
        units: float [n, d], the trials so far.
        values: float [n], theirs.
        workers: that search.
        forget: fit all anew for each suggestion, as a worker that has just started must.
    """
    count, dimensions = units.shape
    space = SearchSpace([Dimension(str(number)) for number in range(dimensions)])
    subspaces = decompose(space, workers)
    history = History(
        units,
        values,
        np.full(count, np.nan),
        np.ones(count),
        np.zeros(count, np.int64),
        np.random.default_rng(1).random((workers - 1, dimensions)),
    )
    settings = AskSettings(workers=workers, budget=4 * count)
    spent = []
    for seed in range(REPEATS + 1):
        if forget:
            forget_stages()
        began = time.process_time()
        suggest(space, history, subspaces, 0, settings, np.random.default_rng(seed))
        spent.append(time.process_time() - began)
    # The first one imports SciPy.
    return float(np.median(spent[1:]))


def cost_of_keras_tuner(units: Floats, values: Floats) -> float:
    """The same for Keras Tuner's BayesianOptimization."""
    warnings.simplefilter("ignore")
    import keras_tuner
    from keras_tuner.engine import trial as trials
    from keras_tuner.oracles import BayesianOptimizationOracle

    space = keras_tuner.HyperParameters()
    for number in range(units.shape[1]):
        space.Float(f"x{number}", 0.0, 1.0)
    oracle = BayesianOptimizationOracle(
        objective=keras_tuner.Objective("value", "min"), hyperparameters=space, seed=0
    )
    with tempfile.TemporaryDirectory() as directory:
        oracle._set_project_dir(directory, "search")
        for number, (unit, value) in enumerate(zip(units, values, strict=True)):
            chosen = space.copy()
            chosen.values = {f"x{place}": float(one) for place, one in enumerate(unit)}
            name = f"{number:04d}"
            trial = trials.Trial(chosen, trial_id=name, status=trials.TrialStatus.COMPLETED)
            trial.score = float(value)
            oracle.trials[name] = trial
            oracle.end_order.append(name)
        spent = []
        for number in range(3):
            began = time.process_time()
            oracle.populate_space(f"next{number}")
            spent.append(time.process_time() - began)
    return float(np.median(spent))


def _trials(count: int, dimensions: int) -> tuple[Floats, Floats]:
    """Half of them anywhere, half near the minimum, as in a search. Hartmann-6, or several."""
    rng = np.random.default_rng(0)
    anywhere = rng.random((count // 2, dimensions))
    best = np.resize([0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573], dimensions)
    near = best + 0.15 * rng.standard_normal((count - count // 2, dimensions))
    units = np.clip(np.concatenate([anywhere, near]), 0, 1)[rng.permutation(count)]
    parts = range(0, dimensions - 5, 6)
    return units, np.array([sum(hartmann6(unit[at : at + 6]) for at in parts) for unit in units])

"""Other searches, behind one interface: ask for a point, tell its value."""

from __future__ import annotations

import tempfile
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.benchmarks.search_simulation import Searcher
from keras_candle.search.acquisition import log_expected_improvement
from keras_candle.search.gaussian_process import fit_gaussian_process

Floats = NDArray[np.float64]


class OptunaSearch:
    """A sampler of Optuna's: "tpe" or "gp_sampler".

    Running trials are taken into account, as Optuna advises for searches with many workers.
    """

    def __init__(self, sampler: str, dimensions: int, workers: int, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.simplefilter("ignore")
        if sampler == "tpe":
            chosen = optuna.samplers.TPESampler(seed=seed, constant_liar=workers > 1)
        else:
            chosen = optuna.samplers.GPSampler(seed=seed, deterministic_objective=True)
        self._study = optuna.create_study(sampler=chosen)
        self._names = [f"x{number}" for number in range(dimensions)]

    def ask(self, worker: int) -> tuple[Any, Floats]:
        del worker
        trial = self._study.ask()
        return trial, np.array([trial.suggest_float(name, 0.0, 1.0) for name in self._names])

    def tell(self, trial: Any, value: float) -> None:
        self._study.tell(trial, value)


class KerasTunerSearch:
    """Keras Tuner's BayesianOptimization or, as "random", its RandomSearch."""

    def __init__(self, kind: str, dimensions: int, budget: int, seed: int) -> None:
        warnings.simplefilter("ignore")
        import keras_tuner
        from keras_tuner import oracles

        kinds = {
            "bayesian": oracles.BayesianOptimizationOracle,
            "random": oracles.RandomSearchOracle,
        }
        space = keras_tuner.HyperParameters()
        self._names = [f"x{number}" for number in range(dimensions)]
        for name in self._names:
            space.Float(name, 0.0, 1.0)
        self._oracle = kinds[kind](
            objective=keras_tuner.Objective("value", "min"),
            max_trials=budget,
            hyperparameters=space,
            seed=seed,
        )
        self._directory = tempfile.TemporaryDirectory()
        self._oracle._set_project_dir(self._directory.name, "search")
        self._oracle._display.verbose = 0

    def ask(self, worker: int) -> tuple[Any, Floats]:
        trial = self._oracle.create_trial(f"worker{worker}")
        values = trial.hyperparameters.values
        return trial, np.array([values[name] for name in self._names])

    def tell(self, trial: Any, value: float) -> None:
        self._oracle.update_trial(trial.trial_id, {"value": value})
        trial = self._oracle.get_trial(trial.trial_id)
        trial.status = "COMPLETED"
        self._oracle.end_trial(trial)


class ClassicHyperSpace:
    """HyperSpace as it was published: overlapping halves, one search for each, nothing shared.

    Each box is searched by our own Gaussian process after 10 random points, with seeds of their
    own: kinder than the original, in which all boxes draw the same points. With fewer workers
    than boxes only the first dimensions are cut, so that no box is left out.
    """

    def __init__(self, dimensions: int, workers: int, seed: int) -> None:
        self._cut = min(dimensions, int(np.log2(max(workers, 1))))
        self._dimensions = dimensions
        self._random = [np.random.default_rng([seed, worker]) for worker in range(workers)]
        self._units: list[list[Floats]] = [[] for _ in range(workers)]
        self._values: list[list[float]] = [[] for _ in range(workers)]

    def ask(self, worker: int) -> tuple[Any, Floats]:
        halves = (worker >> np.arange(self._cut)) & 1
        lower, upper = np.zeros(self._dimensions), np.ones(self._dimensions)
        lower[: self._cut], upper[: self._cut] = 0.375 * halves, 0.625 + 0.375 * halves
        random = self._random[worker]
        if len(self._values[worker]) < 10:
            unit = random.uniform(lower, upper)
        else:
            unit = self._improve(worker, lower, upper, random)
        return (worker, unit), unit

    def _improve(
        self, worker: int, lower: Floats, upper: Floats, random: np.random.Generator
    ) -> Floats:
        units, values = np.array(self._units[worker]), np.array(self._values[worker])
        scaled = (values - values.mean()) / max(values.std(), 1e-12)
        model = fit_gaussian_process(units, scaled, random)
        best = units[values.argmin()]
        width = upper - lower
        near = best + 0.05 * width * random.standard_normal((500, len(best)))
        points = np.clip(
            np.concatenate([random.uniform(lower, upper, (1000, len(best))), near]), lower, upper
        )
        mean, std = model.predict(points)
        return points[log_expected_improvement(mean, std, scaled.min()).argmax()]

    def tell(self, trial: Any, value: float) -> None:
        worker, unit = trial
        self._units[worker].append(unit)
        self._values[worker].append(value)


def make_peer(name: str, dimensions: int, workers: int, budget: int, seed: int) -> Searcher:
    """A peer by its name: "tpe", "gp_sampler", "keras_tuner" or "hyperspace"."""
    if name == "keras_tuner":
        return KerasTunerSearch("bayesian", dimensions, budget, seed)
    if name == "hyperspace":
        return ClassicHyperSpace(dimensions, workers, seed)
    return OptunaSearch(name, dimensions, workers, seed)

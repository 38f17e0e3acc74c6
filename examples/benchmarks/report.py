"""How large the report of a search is, and how long it takes to write and to open.

    python -m examples.benchmarks.report

A search of a cheap function with 8 hyperparameters makes the trials. Printed are the page's size,
the seconds to write it and those until a headless Chromium has loaded and painted it, against the
bounds: 2 MB and 2 s for 200 trials.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras_tuner

import keras_candle as candle
from examples.benchmarks.chromium import Chromium, program
from examples.benchmarks.claims import Claim, claim
from keras_candle.report import write_report

BOUNDS_FOR, MOST_MB, LONGEST_S = 200, 2.0, 2.0
ACTIVATIONS = ("relu", "gelu", "tanh")


class OfFunction(candle.CandleTuner):
    """Searches a function of the hyperparameters."""

    def __init__(self, function: Callable[[Any], Any], *args: Any, **options: Any) -> None:
        self.function = function
        super().__init__(*args, **options)

    def run_trial(self, trial: Any, *_: Any, **__: Any) -> Any:
        return self.function(trial.hyperparameters)


def like_training(hp: Any, activations: tuple[str, ...] = ACTIVATIONS) -> dict[str, float]:
    """What the validation loss and the cost of a network might be."""
    rate = hp.Float("learning_rate", 1e-5, 1e-1, sampling="log")
    units, layers = hp.Int("units", 16, 512, sampling="log"), hp.Int("layers", 1, 4)
    dropout = hp.Float("dropout", 0.0, 0.6)
    activation = hp.Choice("activation", list(activations))
    normalise = hp.Boolean("batch_normalisation")
    momentum = 0.9
    if hp.Choice("optimizer", ["adam", "sgd"]) == "sgd":
        with hp.conditional_scope("optimizer", ["sgd"]):
            momentum = hp.Float("momentum", 0.0, 0.99)
        if rate > 0.05 and not normalise:
            raise keras_tuner.errors.FailedTrialError(f"the loss with {activation} is no number")
    away = (math.log10(rate) + 3.0) ** 2 / 4 + (math.log2(units) - 7) ** 2 / 60
    loss = 0.21 + away + 0.05 * activations.index(activation) + 0.4 * (dropout - 0.2) ** 2
    loss += 0.05 * (0.9 - momentum) ** 2 - 0.03 * math.log(layers)
    parameters = float(74 * units + (layers - 1) * units**2)
    return {"val_loss": loss, "parameters": parameters, "device_seconds": 2e-5 * parameters + 1}


def search(
    folder: Path,
    trials: int,
    function: Callable[[Any], Any] = like_training,
    objective: Any = None,
    **options: Any,
) -> Path:
    """Search a function; returns the search's folder."""
    space = keras_tuner.HyperParameters()
    function(space)
    tuner = OfFunction(
        function,
        None,
        objective or keras_tuner.Objective("val_loss", "min"),
        trials,
        directory=folder,
        project_name="search",
        hyperparameters=space,
        max_consecutive_failed_trials=trials,
        **options,
    )
    tuner.search(verbose=0)
    return folder / "search"


def measure(folder: Path, trials: int, rounds: int, screenshot: Path | None) -> list[Claim]:
    """Write the report of a search, open it, and claim what that took."""
    bounded = trials <= BOUNDS_FOR
    found = search(folder, trials)
    began_s = time.perf_counter()
    page, _ = write_report([found])
    wrote_s = time.perf_counter() - began_s
    of = f"the report of {trials} trials"
    size_mb = page.stat().st_size / 1e6
    claims = [
        claim(f"{of}: size", size_mb, "MB", at_most=MOST_MB if bounded else None),
        claim(f"{of}: written in", wrote_s, "s"),
    ]
    if program() is None:
        print("No Chromium is installed: how long the page takes to open is not measured.")
        return claims
    times = []
    for _ in range(rounds):
        with Chromium() as browser:
            times.append(browser.open(page))
            if screenshot:
                browser.screenshot(screenshot)
    what = f"{of}: opened in headless Chromium, the slowest of {rounds}"
    return [*claims, claim(what, max(times), "s", at_most=LONGEST_S if bounded else None)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=BOUNDS_FOR)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--screenshot", type=Path, help="where a picture of the page goes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        claims = measure(Path(folder), options.trials, options.rounds, options.screenshot)
    return int(not all(each.holds for each in claims))


if __name__ == "__main__":
    sys.exit(main())

"""A search whose trials are no trainings, for ranks that share nothing but a folder."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import keras_tuner

import keras_candle as candle

ASKED = json.loads(sys.argv[1])


def small(hp):
    return hp.Int("a", 0, 2), hp.Boolean("b"), hp.Choice("c", ["x", "y", "z"])


def wide(hp):
    return hp.Float("u", 0.0, 1.0), hp.Float("v", 1e-4, 1.0, sampling="log"), hp.Int("n", 1, 9)


class Quick(candle.CandleTuner):
    ran = 0

    def run_trial(self, trial, *args, **kwargs):
        self.ran += 1
        values = {"small": small, "wide": wide}[ASKED["space"]](trial.hyperparameters)
        time.sleep(ASKED.get("sleep_s", 0))
        if os.environ.get("PMI_RANK") == ASKED.get("killed") and self.ran == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        if values[0] == ASKED.get("fails"):
            raise ValueError("this one is never good")
        return {"score": sum(ord(str(each)[-1]) for each in values)}


def main():
    objective = keras_tuner.Objective("score", "min")
    tuner = Quick(
        lambda hp: {"small": small, "wide": wide}[ASKED["space"]](hp) and None,
        objective,
        ASKED["max_trials"],
        directory="runs",
        project_name="search",
        lease_s=5,
        max_consecutive_failed_trials=100,
        **ASKED.get("options", {}),
    )
    tuner.search(verbose=0)
    best = tuner.get_best_hyperparameters()[0].values
    told = {"best": best, "trials": len(tuner.oracle.trials), "ran": tuner.ran}
    Path(f"told-{os.environ.get('PMI_RANK', '0')}.json").write_text(json.dumps(told))


main()

"""A search whose trials are no trainings, for ranks that share nothing but a folder."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path


def small(hp):
    return hp.Int("a", 0, 2), hp.Boolean("b"), hp.Choice("c", ["x", "y", "z"])


def wide(hp):
    return hp.Float("u", 0.0, 1.0), hp.Float("v", 1e-4, 1.0, sampling="log"), hp.Int("n", 1, 9)


SPACES = {"small": small, "wide": wide}


def main(asked):
    import keras_tuner

    import keras_candle as candle

    folder = Path(asked.get("folder", "."))
    rank, ask = os.environ.get("PMI_RANK", "0"), SPACES[asked["space"]]

    class Quick(candle.CandleTuner):
        ran = 0

        def run_trial(self, trial, *args, **kwargs):
            self.ran += 1
            values = ask(trial.hyperparameters)
            time.sleep(asked.get("sleep_s", 0))
            if rank == asked.get("killed") and self.ran == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            if rank == asked.get("leaves") and self.ran == 2:
                raise keras_tuner.errors.FatalError("this rank has enough")
            if values[0] == asked.get("fails"):
                raise ValueError("this one is never good")
            return {"score": sum(ord(str(each)[-1]) for each in values)}

    def build(hp):
        ask(hp)
        if asked.get("scaled"):
            candle.engine.current()  # as @candle.scalable does

    tuner = Quick(
        build,
        keras_tuner.Objective("score", "min"),
        asked["max_trials"],
        directory=folder / "runs",
        project_name="search",
        lease_s=5,
        max_consecutive_failed_trials=100,
        **asked.get("options", {}),
    )
    try:
        tuner.search(verbose=0)
    except keras_tuner.errors.FatalError:
        return None
    best = tuner.get_best_hyperparameters()[0].values
    told = {"best": best, "trials": len(tuner.oracle.trials), "ran": tuner.ran}
    (folder / f"told-{rank}.json").write_text(json.dumps(told))
    return told


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

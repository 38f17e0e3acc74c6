"""Kills trainings with all four trackers at random moments, and trains with servers that are dead.

    python -m examples.benchmarks.trackers [--kills 6]

A training's process is killed with SIGKILL, every other time together with the process that brings
its numbers to the trackers, and started again. Each package's own reader then reads what is there:
printed is how many epochs it has exactly as the journal has them. After that a training runs with
Weights & Biases and MLflow on a port that does not answer ("dead"), or that accepts a connection
and then says nothing ("mute"), and without them, interleaved. The packages run in their own
process, and for comparison in threads of the training's: what their process is worth.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from examples.benchmarks.claims import Claim, claim
from keras_candle.trackers.reconciler import JournalFeed
from tests.trackers.cases import black_hole, mute_server
from tests.trackers.readers import NAMES, read

EPOCHS, EPOCH_S = 40, 0.25
TIMED_EPOCHS, ROUNDS = 40, 3


def train(
    run: str, trackers: list[str], epochs: int, epoch_s: float, in_threads: bool = False
) -> None:
    """Print the seconds of the training, and when it ended."""
    import keras

    import keras_candle as candle

    if in_threads:
        from keras_candle.callback import tracker_hook

        tracker_hook.IN_TRACKER_PROCESS = frozenset()

    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16), keras.layers.Dense(1)])
    model.compile("adam", "mse", metrics=["mae"])
    x = np.random.default_rng(0).random((800, 8), "float32")
    model.fit(x, x[:, :1], batch_size=8, verbose=0)
    ended: list[float] = []
    slow = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: time.sleep(epoch_s),  # noqa: ARG005
        on_train_end=lambda logs: ended.append(time.monotonic()),  # noqa: ARG005
    )
    durable = candle.CandleCallback(run, candle.Checkpoint(every_epochs=3), trackers=trackers)
    began_s = time.monotonic()
    model.fit(x, x[:, :1], batch_size=8, epochs=epochs, verbose=0, callbacks=[durable, slow])
    print(json.dumps([ended[0] - began_s, ended[0]]), flush=True)


def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "examples.benchmarks.trackers", "--train"]
    return subprocess.Popen(
        [*command, json.dumps(arguments)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def storm(run: Path, kills: int) -> None:
    """Kill a training so often, and let it come to its end."""
    import psutil

    moments_s = np.random.default_rng(1).uniform(0, EPOCHS * EPOCH_S / max(kills, 1), kills)
    journal = run / "journal.jsonl"
    for number, moment_s in enumerate(moments_s):
        before = journal.stat().st_size if journal.exists() else 0
        process = start(str(run), NAMES, EPOCHS, EPOCH_S)
        while process.poll() is None and not (journal.exists() and journal.stat().st_size > before):
            time.sleep(0.05)
        time.sleep(moment_s)
        root = psutil.Process(process.pid)
        for each in (root, *(root.children(recursive=True) if number % 2 else ())):
            each.kill()
        process.wait()
    start(str(run), NAMES, EPOCHS, EPOCH_S).wait()


def as_held(name: str, values: dict[str, float]) -> dict[str, float]:
    """TensorBoard's numbers have 32 bits."""
    return {
        key: float(np.float32(each)) if name == "tensorboard" else each
        for key, each in values.items()
    }


def kept(kills: int) -> list[Claim]:
    """What each package reads after the kills."""
    claims = []
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        storm(run, kills)
        rows = {row.step: row.values for row in JournalFeed(run / "journal.jsonl").rows()}
        for name in NAMES:
            wanted = {step: as_held(name, values) for step, values in rows.items()}
            found = read(name, run)
            exact = sum(found.get(step) == values for step, values in wanted.items())
            what = f"epochs that {name} has exactly once after {kills} kills"
            claims.append(claim(what, exact, at_least=EPOCHS))
    return claims


def timed(*arguments: object, **environment: str) -> list[float]:
    """Seconds of a training, and from its end to that of its process."""
    process = start(*arguments, **environment)
    process.wait()
    gone_s = time.monotonic()
    training_s, ended_s = json.loads(process.communicate()[0])
    return [training_s, gone_s - ended_s]


def with_dead_servers() -> list[Claim]:
    """What they cost: with the packages in their own process, and in threads of the training's."""
    claims = []
    # With a mute server the end waits for 5 s, as long as nothing moves.
    for what, server, end_s in (("dead", black_hole, 5), ("mute", mute_server, 10)):
        times: dict[str, list[list[float]]] = {"none": [], "threads": [], "process": []}
        with server() as port, tempfile.TemporaryDirectory() as folder:
            url = f"http://127.0.0.1:{port}"
            dead = {"MLFLOW_TRACKING_URI": url, "WANDB_BASE_URL": url, "WANDB_API_KEY": "0" * 40}
            for number in range(ROUNDS):
                for name, each in times.items():
                    packages = [] if name == "none" else ["wandb", "mlflow"]
                    run = f"{folder}/{name}-{number}"
                    each.append(timed(run, packages, TIMED_EPOCHS, 0, name == "threads", **dead))
        training, end = (
            {name: statistics.median(each[part] for each in times[name]) for name in times}
            for part in (0, 1)
        )
        longest = max(each[1] for each in times["process"])
        peers = (("without trackers", "none"), ("packages in threads", "threads"))
        for name, key in peers:
            row = f"a training with {what} servers"
            claims.append(claim(row, training["process"], "s", peer=(name, training[key])))
        row = f"the end of one with {what} servers"
        claims.append(claim(row, end["process"], "s", peer=("packages in threads", end["threads"])))
        claims.append(claim(f"{row}, the longest", longest, "s", at_most=end_s))
    return claims


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--train", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        train(*options.train)
        return 0
    claims = [*kept(options.kills), *with_dead_servers()]
    return 0 if all(each.holds for each in claims) else 1


if __name__ == "__main__":
    sys.exit(main())

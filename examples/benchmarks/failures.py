"""How long a job takes to notice that a rank is dead or frozen, and to train again.

    python -m examples.benchmarks.failures --engine horovod

A training is started with `candle run --max-restarts 1`, and its last rank is killed with SIGKILL
in the middle. Printed are the seconds until the job is over, and until all ranks take the lost step
again, less what the new processes take to start and to import. Then one rank is frozen by
SIGSTOP: printed are the seconds from the stall timeout to the report, and the processes left.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from examples.benchmarks.claims import claim

KILLED_AT, STALL_TIMEOUT_S = 20, 5.0


def train(how: str) -> None:
    """In a rank: train, and notice when; the last rank ends itself as `how` says."""
    import keras
    import numpy as np

    import keras_candle as candle
    from keras_candle.launcher_messages import restarts

    imported_s = time.time()
    candle.engine.start()
    stamps = Path(f"stamps-{restarts()}-{candle.rank()}.jsonl").open("a", buffering=1)  # noqa: SIM115

    def stamp(**facts: Any) -> None:
        stamps.write(json.dumps({"time_s": time.time(), **facts}) + "\n")

    class Ends(keras.callbacks.Callback):  # type: ignore[misc]
        step = 0

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
            self.step += 1
            stamp(step=self.step)
            last = candle.rank() == candle.size() - 1
            if last and self.step == KILLED_AT and not restarts():
                os.kill(os.getpid(), getattr(signal, how))

    stamp(began_s=_began_s(), imported_s=imported_s)
    keras.utils.set_random_seed(1)
    hidden = [keras.layers.Dense(512, "relu") for _ in range(4)]
    model = keras.Sequential([keras.Input((512,)), *hidden, keras.layers.Dense(1)])
    model.compile("adam", "mse")
    model = candle.scale(model)
    x = np.random.default_rng(0).random((640, 512), "float32")
    durable = candle.CandleCallback(
        "run", candle.Checkpoint(every_steps=1), stall_timeout=STALL_TIMEOUT_S
    )
    model.fit(x, x[:, :1], batch_size=16, epochs=3, verbose=0, callbacks=[Ends(), durable])


def _began_s() -> float:
    """When this process began: seconds since the epoch."""
    with open("/proc/self/stat") as own, open("/proc/uptime") as uptime:
        ticks = int(own.read().rpartition(")")[2].split()[19])
        age_s = float(uptime.read().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - age_s


class Job:
    """One training that fails, and what could be seen of it.

    Args:
        how: the name of the signal that its last rank sends itself.
        restarts: how often it may start again.
    """

    def __init__(self, how: str, restarts: int, options: argparse.Namespace, folder: Path) -> None:
        self._folder = folder
        command = [sys.executable, "-m", "keras_candle.launch.cli", "run"]
        command += ["-np", str(options.np), "--engine", options.engine]
        command += ["--max-restarts", str(restarts), str(Path(__file__).resolve()), "--train", how]
        self.lines: list[tuple[float, str]] = []
        with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as job:
            for line in job.stderr or ():
                self.lines.append((time.time(), line))
        self.code = job.returncode
        self.over_s = time.time()

    def said_s(self, words: str) -> float:
        """When it said something, seconds since the epoch."""
        for time_s, line in self.lines:
            if words in line:
                return time_s
        sys.exit(f"the job never said {words!r}:\n{''.join(line for _, line in self.lines)}")

    def stamps(self, restart: int) -> list[dict[str, Any]]:
        """What the ranks of one start noticed."""
        return [
            json.loads(line)
            for file in self._folder.glob(f"stamps-{restart}-*.jsonl")
            for line in file.read_text().splitlines()
        ]

    def failed_s(self) -> float:
        """When its rank failed."""
        return float(max(e["time_s"] for e in self.stamps(0) if e.get("step") == KILLED_AT))

    def processes_left(self) -> int:
        """How many processes are still in its folder."""
        found = 0
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                found += os.readlink(f"/proc/{pid}/cwd") == str(self._folder)
            except OSError:  # it has ended, or is not ours
                continue
        return found


def measure_kill(options: argparse.Namespace, folder: Path) -> None:
    job = Job("SIGKILL", 1, options, folder)
    failed_s = job.failed_s()
    over_s = job.said_s("started again")
    claim("kill -9 of a rank until the job is over", over_s - failed_s, "s", at_most=5)
    again = job.stamps(1)
    starts = [each for each in again if "began_s" in each]
    imports_s = max(each["imported_s"] - each["began_s"] for each in starts)
    lost_s = max(each["time_s"] for each in again if each.get("step") == KILLED_AT)
    rest_s = lost_s - over_s - imports_s
    claim("from there to the lost step, less starting and importing", rest_s, "s", at_most=3)


def measure_freeze(options: argparse.Namespace, folder: Path) -> None:
    job = Job("SIGSTOP", 0, options, folder)
    reported_s = job.said_s("no progress for") - job.failed_s() - STALL_TIMEOUT_S
    claim("a frozen rank is reported after the stall timeout", reported_s, "s", at_most=2)
    claim("processes left behind", job.processes_left(), at_most=0)
    print(f"exit code {job.code}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-np", type=int, default=2)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--train", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        train(options.train)
        return
    for measure in (measure_kill, measure_freeze):
        with tempfile.TemporaryDirectory() as folder:
            measure(options, Path(folder).resolve())


if __name__ == "__main__":
    main()

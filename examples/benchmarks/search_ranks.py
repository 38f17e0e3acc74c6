"""The search on real ranks: trials a second beside Keras Tuner's chief, idle ranks, dead ranks.

    python -m examples.benchmarks.search_ranks --ranks 4 8

rate    a trivial objective of 10 hyperparameters, on the same cores: trials a second from when all
        ranks have begun one to the last one's end, of `CandleTuner(search="random")` and of Keras
        Tuner's gRPC chief with a RandomSearch; then both with their Bayesian optimisers (fewer)
asleep  trials that sleep 2 s: the part of the ranks' time that is spent in trials
killed  200 trials, random ranks killed by SIGKILL in the middle of one, started again until all
        are done: how many results there are, how many of them once, and how many trials a kill lost

Keras Tuner's distributed mode needs grpcio: pip install grpcio protobuf.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from examples.benchmarks.claims import claim

ROOT = Path(__file__).resolve().parents[2]
DIMENSIONS, SLEEP_S = 10, 2.0


def objective(hp: Any) -> float:
    return float(sum((hp.Float(f"x{i}", 0.0, 1.0) - 0.37) ** 2 for i in range(DIMENSIONS)))


def worker(asked: Mapping[str, Any]) -> None:
    """In a rank or a worker of Keras Tuner's: search, and note when trials begin and end."""
    import keras_tuner

    import keras_candle as candle

    notes = Path(f"notes-{os.getpid()}.jsonl").open("a", buffering=1)  # noqa: SIM115
    chance = random.Random(os.getpid())  # noqa: S311

    def run_trial(self: Any, trial: Any, *args: Any, **kwargs: Any) -> float:  # noqa: ARG001
        began_s = time.time()
        value = objective(trial.hyperparameters)
        time.sleep(asked["sleep_s"])
        if chance.random() < asked["killed"]:
            os.kill(os.getpid(), signal.SIGKILL)
        notes.write(json.dumps([began_s, time.time()]) + "\n")
        return value

    def build(hp: Any) -> None:
        objective(hp)

    given: dict[str, Any] = {"directory": "runs", "project_name": "p"}
    if asked["side"] == "ours":
        ours = type("Ours", (candle.CandleTuner,), {"run_trial": run_trial})
        tuner = ours(build, max_trials=asked["trials"], search=asked["search"], **given)
        wait_for_all(asked["together"])
        tuner.search(verbose=0)
        return
    kinds = {"random": keras_tuner.RandomSearch, "subspaces": keras_tuner.BayesianOptimization}
    kind = kinds[asked["search"]]
    theirs = type("Theirs", (kind,), {"run_trial": run_trial})
    tuner = theirs(build, max_trials=asked["trials"], **given)  # of the chief, this never returns
    wait_for_all(asked["together"])
    tuner.search(verbose=0)


def wait_for_all(ranks: int) -> None:
    """Until so many are here: else some search while others import TensorFlow on the same cores."""
    Path(f"here-{os.getpid()}").touch()
    while len(list(Path().glob("here-*"))) < ranks:
        time.sleep(0.01)


def start(asked: Mapping[str, Any], ranks: int, folder: str) -> int:
    """Run one search to its end; returns the exit code."""
    program = [str(Path(__file__).resolve()), "--worker", json.dumps(asked)]
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore",
    }  # fmt: skip
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    if asked["side"] == "ours":
        command = [sys.executable, "-m", "keras_candle.launch.cli", "run", "-np", str(ranks)]
        return subprocess.run(
            [*command, *program], env=environment, check=False, **quiet
        ).returncode  # type: ignore[call-overload, no-any-return]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    of_all = {"KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": str(port)}
    names = ["chief", *(f"tuner{i}" for i in range(ranks))]
    jobs = [
        subprocess.Popen(
            [sys.executable, *program],
            env={**environment, **of_all, "KERASTUNER_TUNER_ID": name},
            **quiet,  # type: ignore[call-overload]
        )
        for name in names
    ]
    codes = [job.wait() for job in jobs[1:]]
    jobs[0].terminate()  # it notices the end only when it looks again, after 20 s
    jobs[0].wait()
    return max(codes)


def times(folder: str) -> list[list[list[float]]]:
    """For each rank with a trial, when its trials began and ended."""
    files = (file.read_text().splitlines() for file in Path(folder).glob("notes-*.jsonl"))
    return [[json.loads(line) for line in lines] for lines in files if lines]


def rate(side: str, search: str, trials: int, ranks: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        asked = {"side": side, "search": search, "trials": trials, "sleep_s": 0, "killed": 0}
        start({**asked, "together": ranks}, ranks, folder)
        noted = times(folder)
    all_there = max(rank[0][0] for rank in noted)
    ends = [end for rank in noted for began, end in rank if began >= all_there]
    return len(ends) / (max(ends) - all_there)


def measure_rates(ranks: int) -> None:
    for search, ours, theirs in (("random", 2000, 2000), ("subspaces", 200, 40)):
        mine, chief = rate("ours", search, ours, ranks), rate("chief", search, theirs, ranks)
        what = f"{search} search on {ranks} ranks"
        claim(what, mine, "trials/s", peer=("Keras Tuner's chief", chief), at_least=2)


def measure_asleep(ranks: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asked = {"side": "ours", "search": "subspaces", "trials": 12 * ranks, "sleep_s": SLEEP_S}
        start({**asked, "killed": 0, "together": 0}, ranks, folder)
        noted = times(folder)
    inside = sum(end - began for rank in noted for began, end in rank)
    # Of each rank from its own first trial to its own last one: ranks do not import equally fast.
    whole = sum(rank[-1][1] - rank[0][0] for rank in noted)
    claim(f"time in trials of 2 s on {ranks} ranks", 100 * inside / whole, "%", at_least=97)


def measure_killed(ranks: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asked = {"side": "ours", "search": "subspaces", "trials": 200, "sleep_s": 0.05}
        starts = 1
        while start({**asked, "killed": 0.02, "together": 0}, ranks, folder) and starts < 60:
            starts += 1
        lines = [
            json.loads(line)
            for file in Path(folder).glob("runs/p/journals/*.jsonl")
            for line in file.read_text().splitlines()
        ]
        files = list(Path(folder).glob("runs/p/trial_*/trial.json"))
    ended = [line["trial"] for line in lines if line["event"] == "ended"]
    started = [line for line in lines if line["event"] == "started"]
    print(f"{len(started) - len(ended)} trials were lost to kills, in {starts} starts", flush=True)
    what = f"of 200 trials on {ranks} ranks, some killed"
    claim(f"results {what}", len(set(ended)), at_least=200, at_most=200)
    claim(f"results that are there twice {what}", len(ended) - len(set(ended)), at_most=0)
    claim(f"trial.json {what}", len(files), at_least=200, at_most=200)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--only", choices=["rate", "asleep", "killed"])
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(json.loads(options.worker))
        return
    if options.only in (None, "rate"):
        for ranks in options.ranks:
            measure_rates(ranks)
    if options.only in (None, "asleep"):
        measure_asleep(max(options.ranks))
    if options.only in (None, "killed"):
        measure_killed(min(options.ranks))


if __name__ == "__main__":
    main()

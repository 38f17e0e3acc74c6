"""What starting a job takes, by the number of ranks, and what a checkpoint of all of them holds.

    python -m examples.benchmarks.scaling --ranks 1 2 4 8 16 64

Each job is started twice on this machine: with ranks that only agree on a number, which imports
neither Keras nor TensorFlow, and, up to 16 ranks, with a training of one epoch with checkpoints and
a watchdog. The model is 5.4 s of a core for each rank that trains, 0.4 s for each that does not.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from examples.benchmarks.claims import claim

ROOT = Path(__file__).parents[2]
TRAINING_CPU_S, AGREEING_CPU_S = 5.4, 0.4
MOST_TRAINING_RANKS = 16
BOUNDS_S = {("agree", 64): 60.0, ("train", 16): 120.0}


def agree() -> None:
    """In a rank: start, and agree."""
    from keras_candle import engine as engines

    engine = engines.start("mpi")
    engine.agree("the number of ranks", engine.size)


def train() -> None:
    """In a rank: train for one epoch."""
    import keras
    import numpy as np

    import keras_candle as candle

    candle.engine.start("mpi")
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(8), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    model = candle.scale(model)
    x = np.random.default_rng(0).normal(size=(16 * candle.size(), 8))
    model.fit(x, x[:, :1], batch_size=4, verbose=0, callbacks=[candle.CandleCallback("run")])


def job(ranks: int, what: str, folder: Path) -> tuple[float, float]:
    """Run a job; its seconds, and those of all its processes on a core."""
    command = [sys.executable, "-m", "keras_candle.launch.cli", "run", "-np", str(ranks)]
    command += ["--engine", "mpi", "-m", "examples.benchmarks.scaling", "--in-rank", what]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    before, began_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    took_s, after = time.monotonic() - began_s, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{ranks} ranks gave {done.returncode}: {done.stderr}")
    on_core_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return took_s, on_core_s


def measure(ranks: int, what: str) -> None:
    of_rank_s = TRAINING_CPU_S if what == "train" else AGREEING_CPU_S
    named = f"{ranks} ranks that {what}"
    with tempfile.TemporaryDirectory() as folder:
        took_s, on_core_s = job(ranks, what, Path(folder))
        whole = ("the model", of_rank_s * ranks / min(ranks, os.cpu_count() or 1))
        claim(f"{named}, start to end", took_s, "s", peer=whole)
        if (what, ranks) in BOUNDS_S:
            claim(f"{named}, start to end", took_s, "s", at_most=BOUNDS_S[what, ranks])
        claim(f"{named}, on a core", on_core_s, "s", peer=("the model", of_rank_s * ranks))
        if what == "train":
            (newest,) = Path(folder).glob("run/checkpoints/step-*")
            files = list(newest.iterdir())
            claim(f"files of a checkpoint of {ranks} ranks", len(files), at_most=6)
            own = (newest / "ranks.zip").stat().st_size / ranks
            claim(f"a rank's own state of a checkpoint of {ranks} ranks", own / 1000, "kB")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4, 8, 16, 64])
    parser.add_argument("--in-rank", choices=["agree", "train"], help="what a rank does")
    options = parser.parse_args()
    if options.in_rank:
        {"agree": agree, "train": train}[options.in_rank]()
        return 0
    for ranks in options.ranks:
        measure(ranks, "agree")
        if ranks <= MOST_TRAINING_RANKS:
            measure(ranks, "train")
    return 0


if __name__ == "__main__":
    sys.exit(main())

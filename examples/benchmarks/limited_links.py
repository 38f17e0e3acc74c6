"""What a training step takes where the hosts' links are slow: 200 Mbit/s and 4 MB of gradients.

    python -m examples.benchmarks.limited_links

The hosts are network namespaces with a token bucket filter on each link, one rank on each. In one
run our sum of the gradients is compared with MPI's own allreduce, and both it and the whole step
with the ring model: 2 (N - 1) / N of the bytes at the link's rate. It needs root's rights and
iproute2.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from examples.benchmarks.claims import claim

ROOT = Path(__file__).parents[2]
RATE_BITS_PER_S, SIDE = 200e6, 1000
BYTES = 4 * SIDE**2


def ring_ms(ranks: int, size_bytes: float = BYTES) -> float:
    """The least time of a sum over the ranks."""
    return 1000 * 2 * (ranks - 1) / ranks * size_bytes * 8 / RATE_BITS_PER_S


def measure(engine_name: str, steps: int) -> dict[str, float]:
    """In a rank: medians in milliseconds."""
    import keras
    import numpy as np
    import tensorflow as tf

    import keras_candle as candle

    engine: Any = candle.engine.start(engine_name)
    found: dict[str, float] = {}
    if engine_name == "mpi":
        from mpi4py import MPI

        plain = MPI.COMM_WORLD.Dup()
        for dtype in ("float32", "float16"):
            own = np.random.default_rng(engine.rank).normal(size=SIDE**2).astype(dtype)
            rounds = sums(engine, plain, own)
            taken: dict[str, list[float]] = {name: [] for name in rounds}
            for _ in range(steps):
                for name, run in rounds.items():
                    plain.Barrier()
                    taken[name].append(timed(run))
            for name, times_ms in taken.items():
                found[f"{dtype} {name}"] = statistics.median(times_ms)

    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((SIDE,)), keras.layers.Dense(SIDE, use_bias=False)])
    model.compile("sgd", "mse")
    model = candle.scale(model)
    x = tf.constant(np.random.default_rng(0).normal(size=(8, SIDE)), tf.float32)
    batch = tf.data.Dataset.from_tensors((x, x)).repeat()
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    batch = batch.with_options(options)
    model.fit(batch, steps_per_epoch=2, verbose=0, shuffle=False)
    iterator = iter(batch)
    found["step"] = statistics.median(
        timed(lambda: model.train_function(iterator)) for _ in range(2 * steps)
    )
    return found


def sums(engine: Any, plain: Any, own: Any) -> dict[str, Callable[[], Any]]:
    """Our sum in a step, and MPI's own."""
    import numpy as np

    from keras_candle.engine.mpi import _add_halves

    result = np.empty_like(own)

    def default() -> None:
        if own.dtype == np.float16:  # which MPI does not know
            plain.Allreduce(own.view(np.uint16), result.view(np.uint16), operation)
        else:
            plain.Allreduce(own, result)

    from mpi4py import MPI

    operation = MPI.Op.Create(_add_halves, commute=True)
    return {"ours": lambda: engine.sum_in_step(own, "benchmark"), "default": default}


def timed(run: Callable[[], Any]) -> float:
    began_s = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - began_s)


def on_hosts(network: Any, engine: str, steps: int) -> dict[str, float]:
    """The medians of a job with a rank on each host."""
    ranks = len(network.hosts)
    job = ("mpiexec", "-n", str(ranks), "-hosts", ",".join(network.hosts), sys.executable)
    options = ("--engine", engine, "--steps", str(steps))
    done = network.run(
        *job, "-m", "examples.benchmarks.limited_links", *options, cwd=ROOT, timeout_s=170
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise SystemExit(f"The job gave {done.returncode}:\n{done.stdout}{done.stderr}")
    found: dict[str, float] = json.loads(lines[-1])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--engine", help="in a rank: the engine to measure")
    options = parser.parse_args()
    if options.engine:
        import keras_candle as candle

        found = measure(options.engine, options.steps)
        if candle.is_root():
            print(json.dumps(found), flush=True)
        return 0

    from tests.cluster.network import connected, missing

    if missing():
        print(f"limited_links: {missing()}", file=sys.stderr)
        return 1
    for ranks in (2, 3):
        model = ("the ring model", ring_ms(ranks))
        with connected(ranks) as network:
            network.rate(f"{RATE_BITS_PER_S / 1e6:g}mbit")
            of = {engine: on_hosts(network, engine, options.steps) for engine in ("mpi", "horovod")}
        where = f"of 4 MB on {ranks} hosts at 200 Mbit/s"
        for engine, found in of.items():
            claim(f"a step {where}, {engine}", found["step"], "ms", peer=model, at_most=1.4)
        mpi = of["mpi"]
        default = ("MPI's own", mpi["float32 default"])
        claim(f"a sum {where}", mpi["float32 ours"], "ms", peer=default, at_most=1.1)
        claim(f"a sum {where}", mpi["float32 ours"], "ms", peer=model, at_most=1.4)
        halves = ("MPI's own", mpi["float16 default"])
        claim(f"a sum {where}, as 16 bits", mpi["float16 ours"], "ms", peer=halves, at_most=1.1)
    return 0


if __name__ == "__main__":
    sys.exit(main())

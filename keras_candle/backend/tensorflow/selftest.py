"""Test the collectives of an engine, on the host and in a TensorFlow graph.

    python -m keras_candle.backend.tensorflow.selftest --engine NAME

`candle doctor` and `candle build-horovod` start it on two ranks.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import numpy as np
import tensorflow as tf

from keras_candle import engine as engines
from keras_candle.backend.tensorflow.collectives import concat_in_step, sum_in_step
from keras_candle.errors import EngineError


def check(engine: engines.Engine) -> None:
    """Check sums over the ranks, on the host and in a TensorFlow graph.

    Raises:
        EngineError: when a sum is wrong.
    """

    def exchange(x: Any) -> tuple[Any, Any]:
        (total,) = sum_in_step(engine, [x], name="selftest")
        (rows,) = concat_in_step(engine, [x], name="selftest")
        return total, rows

    own = np.full(3, engine.rank + 1.0, np.float32)
    expected = engine.size * (engine.size + 1) / 2
    total, rows = tf.function(exchange)(tf.constant(own))
    found = {
        "allreduce": engine.allreduce(own)[0],
        "sum in a graph": total.numpy()[0],
        "concatenation in a graph": rows.numpy()[::3].sum(),
    }
    for what, value in found.items():
        if value != expected:
            raise EngineError(f"{engine.name}: {what} gave {value}, expected {expected}.")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", default="auto")
    engine = engines.start(parser.parse_args().engine)
    begin = time.perf_counter()
    check(engine)
    engine.print_on_root(
        f"ok: {engine.name}, {engine.size} ranks, {time.perf_counter() - begin:.2f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Measure the step time and the metrics of a short training in each precision."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras

from keras_candle.keras_private.optimizers import optimized_variables
from keras_candle.precision_audit.layers import FLOAT16
from keras_candle.precision_audit.step import Bench, one_line
from keras_candle.precision_audit.switching import (
    FIRST_SCALE,
    loss_scaling,
    optimizer_in,
    switched,
    unwrapped,
)
from keras_candle.training.step_chain import chain_of
from keras_candle.verification.recorder import without_noise

# For all precisions together; a model whose step is slow trains for fewer steps.
_TIMING_S, _TRAINING_S = 10.0, 30.0
# Many short rounds, so that a busy machine slows all precisions equally.
_ROUNDS, _FEWEST_ROUNDS, _STEPS_A_ROUND = 20, 4, 5
_FEWEST_STEPS, _MOST_STEPS = 4, 32


@dataclass
class Measured:
    """The measurements of one precision, with or without pins.

    Attributes:
        precision: one of `layers.PRECISIONS`.
        pins: names of the parts that compute in float32.
        step_s: the median of a step's time.
        steps: the number of trained steps.
        metrics: by name, over the last steps.
        skipped: the number of steps skipped, since gradients were not finite at their loss scale.
        error: the error on one line; "" without one.
    """

    precision: str
    pins: Sequence[str] = ()
    step_s: float = 0.0
    steps: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    skipped: int = 0
    error: str = ""


def measure(bench: Bench, batches: Sequence[Any], asked: Sequence[Measured]) -> None:
    """Fill in step times, interleaved, and metrics, each from the same initial state.

    Args:
        bench: the model; it is restored afterwards.
        batches: the training data, repeated as needed.
        asked: the precisions and pins to measure, float32 first.
    """
    measurements = [_Measurement(bench, each) for each in asked]
    for each in measurements:
        each.guarded(each.compile)
    measurements = [each for each in measurements if not each.result.error]
    if not measurements:
        return
    _time_in_turns(measurements)
    for each in measurements:
        each.result.step_s = statistics.median(each.times)
    steps = _steps(sum(each.result.step_s for each in measurements), len(batches))
    for each in measurements:
        each.guarded(lambda each=each: each.train(batches, steps))
    bench.state.restore()


def _time_in_turns(measurements: Sequence[_Measurement]) -> None:
    round_s = sum(each.first_s for each in measurements)
    steps = min(_STEPS_A_ROUND, max(1, int(_TIMING_S / _ROUNDS / round_s)))
    deadline = time.perf_counter() + _TIMING_S
    for number in range(_ROUNDS):
        if number >= _FEWEST_ROUNDS and time.perf_counter() > deadline:
            return
        for each in measurements:
            each.time(steps)
        if number == 0:
            # The first round warms up.
            for each in measurements:
                each.times.clear()


def _steps(all_s: float, batches: int) -> int:
    steps = min(_MOST_STEPS, max(_FEWEST_STEPS, int(_TRAINING_S / max(all_s, 1e-9))))
    return max(1, steps // batches) * batches


class _Measurement:
    def __init__(self, bench: Bench, result: Measured) -> None:
        self.result, self._bench = result, bench
        self.times: list[float] = []
        self.first_s = 0.0
        self._function: Any = None
        self._optimizer: Any = None

    def guarded(self, do: Any) -> None:
        try:
            do()
        except Exception as error:  # any error of the user's layers in this precision
            self.result.error = one_line(error)

    def compile(self) -> None:
        """The training step as Keras compiles it, run twice."""
        with self._in_precision():
            self._compile()
            self._run(self._bench.batch)
            began = time.perf_counter()
            self._run(self._bench.batch)
            self.first_s = max(time.perf_counter() - began, 1e-6)

    def time(self, steps: int) -> None:
        with self._in_precision():
            for _ in range(steps):
                began = time.perf_counter()
                self._run(self._bench.batch)
                self.times.append(time.perf_counter() - began)

    def train(self, batches: Sequence[Any], steps: int) -> None:
        model, logs = self._bench.model, None
        # Random numbers differ between precisions, and their effect would hide that of rounding.
        with self._in_precision(), without_noise(model) as is_noisy:
            if is_noisy:
                self._compile()
            for step in range(steps):
                if step == steps - len(batches):
                    model.reset_metrics()
                logs = self._run(batches[step % len(batches)])
        self.result.steps = steps
        self.result.metrics = {
            name: float(keras.ops.convert_to_numpy(value))
            for name, value in (logs.items() if isinstance(logs, dict) else ())
            if keras.ops.ndim(value) == 0
        }
        if self._optimizer is not None:
            # Halved at each skipped step; doubled after 2,000 successful ones.
            scale = float(keras.ops.convert_to_numpy(self._optimizer.dynamic_scale))
            self.result.skipped = round(math.log2(FIRST_SCALE / scale))

    def _compile(self) -> None:
        model = self._bench.model
        model.make_train_function(force=True)
        self._function = chain_of(model).take()

    def _run(self, batch: Any) -> Any:
        logs = self._function(iter([batch]))
        # A step has ended when its numbers can be read.
        for value in keras.tree.flatten(logs):
            keras.ops.convert_to_numpy(value)
        return logs

    @contextmanager
    def _in_precision(self) -> Iterator[None]:
        """The model as it would begin in this precision."""
        bench, result = self._bench, self.result
        bench.state.restore()
        with ExitStack() as around:
            around.enter_context(switched(bench.parts, result.precision, result.pins))
            around.enter_context(optimizer_in(bench.model, self._scaling()))
            yield

    def _scaling(self) -> Any:
        """This measurement's own loss scaling, reset to the beginning of a training."""
        if self.result.precision != FLOAT16:
            return None
        if self._optimizer is None:
            self._optimizer = loss_scaling(self._bench.model)
        if self._optimizer is not None:
            if not self._optimizer.built:
                self._optimizer.build(optimized_variables(unwrapped(self._optimizer)))
                self._optimizer.built = True
            self._optimizer.dynamic_scale.assign(FIRST_SCALE)
            self._optimizer.step_counter.assign(0)
        return self._optimizer

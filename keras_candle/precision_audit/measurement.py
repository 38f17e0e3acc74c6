"""Measure the step time and the metrics of a short training in each precision."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from keras_candle.keras_private.optimizers import optimized_variables
from keras_candle.precision_audit.layers import FLOAT16
from keras_candle.precision_audit.pins import INF, NAN, findings_of
from keras_candle.precision_audit.step import Bench, losses_in, scalars_in
from keras_candle.precision_audit.switching import (
    FIRST_SCALE,
    loss_scaling,
    optimizer_in,
    switched,
    unwrapped,
)
from keras_candle.training.step_chain import chain_of
from keras_candle.verification.trial_step import State, one_line, without_noise

# For all precisions together; a model whose step is slow trains for fewer steps.
_TIMING_S, _TRAINING_S = 10.0, 30.0
# Many short rounds, so that a busy machine slows all precisions equally.
_ROUNDS, _FEWEST_ROUNDS, _STEPS_A_ROUND = 20, 4, 5
_FEWEST_STEPS, _MOST_STEPS = 4, 128
# Where an update changes fewer of the numbers that have a gradient, a variable does not train.
_CHANGED_SHARE = 0.5


@dataclass
class Measured:
    """The measurements of one precision, with or without pins.

    Attributes:
        precision: one of `layers.PRECISIONS`.
        pins: names of the parts that compute in float32.
        step_s: the median of a step's time.
        steps: the number of trained steps.
        first: metrics by name, over the first pass of the batches.
        metrics: by name, over the last pass.
        not_finite: the first step after which a metric is not finite, 0 without one.
        begins: the layers where that step's values are not finite, in words.
        stuck: path -> the fraction of a 16-bit variable's numbers with a gradient that the last
            step's update has left as they were.
        skipped: the number of steps skipped, since gradients were not finite at their loss scale.
        error: the error on one line; "" without one.
    """

    precision: str
    pins: Sequence[str] = ()
    step_s: float = 0.0
    steps: int = 0
    first: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    not_finite: int = 0
    begins: list[str] = field(default_factory=list)
    stuck: dict[str, float] = field(default_factory=dict)
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
        model, result = self._bench.model, self.result
        # Random numbers differ between precisions, and their effect would hide that of rounding.
        with self._in_precision(), without_noise(model):
            self._compile()
            for step in range(steps):
                if step == steps - len(batches):
                    model.reset_metrics()
                result.metrics = scalars_in(self._run(batches[step % len(batches)]))
                if step < len(batches):
                    result.first = result.metrics
                if not result.not_finite and not _is_finite(result.metrics):
                    result.not_finite = step + 1
            result.steps = steps
            self._count_skipped()
            if result.not_finite:
                self._find_beginning(batches)
            elif not result.pins:
                self._find_stuck(batches[(steps - 1) % len(batches)])

    def _count_skipped(self) -> None:
        if self._optimizer is not None:
            # Halved at each skipped step; doubled after 2,000 successful ones.
            scale = float(keras.ops.convert_to_numpy(self._optimizer.dynamic_scale))
            self.result.skipped = round(math.log2(FIRST_SCALE / scale))

    def _find_beginning(self, batches: Sequence[Any]) -> None:
        """Repeat the training up to the step that fails, and watch each layer in that one."""
        bench, result = self._bench, self.result
        bench.state.restore()
        self._reset_scale()
        for step in range(result.not_finite - 1):
            self._run(batches[step % len(batches)])
        batch = batches[(result.not_finite - 1) % len(batches)]
        broken = [each.path for each in bench.model.variables if not _all_finite(each)]
        here = Bench(bench.model, batch, bench.parts, State(bench.model))
        done = here.step(result.precision, result.pins)
        result.begins = [f"{path} is not finite after step {step + 1}" for path in broken[:1]]
        result.begins += [
            f"{each.part.kind} {each.part.name!r} ({each.description})"
            for each in findings_of(done, bench.parts)
            if each.kind in (INF, NAN)
        ]
        if _short_variables(bench.model):
            result.begins.append(f"variables are in 16 bits. {_MIXED}")

    def _find_stuck(self, batch: Any) -> None:
        """Measure which numbers of 16-bit variables a step's update leaves as they are."""
        model = self._bench.model
        short = _short_variables(model)
        if not short:
            return
        here = Bench(model, batch, self._bench.parts, State(model))
        gradients = here.step(self.result.precision).gradients
        before = [np.copy(keras.ops.convert_to_numpy(each)) for each in short]
        self._run(batch)
        for variable, value in zip(short, before, strict=True):
            gradient = gradients.get(variable.path, np.zeros(()))
            moves = np.asarray(gradient != 0)
            if moves.shape == value.shape and moves.any():
                same = keras.ops.convert_to_numpy(variable) == value
                share = float(np.mean(same[moves]))
                if share > _CHANGED_SHARE:
                    self.result.stuck[variable.path] = share

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
            self._reset_scale()
        return self._optimizer

    def _reset_scale(self) -> None:
        if self._optimizer is not None:
            self._optimizer.dynamic_scale.assign(FIRST_SCALE)
            self._optimizer.step_counter.assign(0)


def _short_variables(model: Any) -> list[Any]:
    return [each for each in model.trainable_variables if each.dtype in ("float16", "bfloat16")]


def _is_finite(metrics: Mapping[str, float]) -> bool:
    return all(map(math.isfinite, losses_in(metrics).values()))


def _all_finite(variable: Any) -> bool:
    value = keras.ops.convert_to_numpy(keras.ops.cast(variable, "float32"))
    return bool(np.isfinite(value).all())


# A loss is apart that misses half of what float32 gains, and by more than this of the first loss.
_APART = 0.02


def problems_of(measured: Measured, exact: Measured, name: str) -> list[str]:
    """Return what goes wrong in the short training of a precision.

    Args:
        measured: the training.
        exact: that in float32; the same object for itself.
        name: of the precision, for the sentences.
    """
    if measured.error:
        return []
    found = []
    if measured.not_finite:
        where = "; ".join(measured.begins) or "no layer's output: in the loss or the optimizer"
        found.append(
            f"{name}: the loss is not finite from step {measured.not_finite} of {measured.steps}: "
            f"{where}"
        )
    elif measured.skipped >= measured.steps > 0:
        found.append(
            f"{name}: all {measured.steps} steps are skipped: gradients are not finite at any loss "
            "scale"
        )
    else:
        found += [f"{name}: {each}" for each in _behind(measured, exact)]
    if measured.stuck:
        path, share = next(iter(measured.stuck.items()))
        rest = len(measured.stuck) - 1
        more = f" (and of {rest} more variables)" if rest else ""
        found.append(
            f"{name}: an update leaves {share:.0%} of {path}{more} as it is, where there is a "
            f"gradient: it is below the resolution of the variable's dtype. {_MIXED}"
        )
    return found


_MIXED = 'Use "mixed_float16" or "mixed_bfloat16", which keep variables in float32'


def _behind(measured: Measured, exact: Measured) -> list[str]:
    """The losses that stay behind float32's: the whole loss, or all of several that compete."""
    last, found = losses_in(exact.metrics), []
    names = ["loss"] if "loss" in last else list(last)
    for name in names:
        value = measured.metrics.get(name, math.nan)
        start, target = exact.first.get(name, math.nan), last[name]
        gained = max(0.0, start - target)
        if value - target > max(0.5 * gained, _APART * abs(start)):
            found.append(
                f"{name} goes from {start:.4g} to {value:.4g} in {measured.steps} steps, where "
                f"float32 goes to {target:.4g}"
            )
    return found if len(found) == len(names) else []

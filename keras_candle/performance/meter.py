"""Measure one rank's training: steps, samples, and seconds by phase."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_candle.engine.base import Engine
from keras_candle.performance.stopwatch import Stopwatch, Waits, stopwatch_of
from keras_candle.training.fit_chain import Place
from keras_candle.training.step_chain import TrainFunction, chain_of

# INPUT is the start of a pass over the data; later waits for data are part of TRAINING.
INPUT, TRAINING = "input", "training"
CALLBACKS, CHECKPOINT, EVALUATION = "callbacks", "checkpoint", "evaluation"
PHASES = (INPUT, TRAINING, CALLBACKS, CHECKPOINT, EVALUATION)
# The number of latest steps whose times are kept.
_MOST_STEPS = 1_000_000


class Phases:
    """Adds up the time spent in each phase; a phase lasts until the next one is entered.

    Args:
        clock: returns seconds since any fixed moment.

    Attributes:
        phase: the current phase.
        seconds: by phase.
        first_step_s: the time of the step's first call, which compiles it; None before.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self.phase = ""
        self._since_s = 0.0
        self._step_s = -1.0
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.first_step_s: float | None = None
        self._steps = array("d")

    def enter(self, phase: str) -> None:
        """Enter a phase, to which the time belongs from now on; "" for none."""
        now_s = self._clock()
        if self.phase:
            self.seconds[self.phase] += now_s - self._since_s
        self.phase, self._since_s = phase, now_s

    def begin_step(self) -> bool:
        """Record the start of a step, which ends the previous one.

        Returns:
            Whether the previous one was the first. Its time is kept apart: all sums are reset.
        """
        now_s = self._clock()
        was_first = self._end_step(now_s)
        self._step_s = now_s
        return was_first

    def end_steps(self) -> bool:
        """Record the end of the last step before a pause; return the same as `begin_step`."""
        was_first = self._end_step(self._clock())
        self._step_s = -1.0
        return was_first

    def _end_step(self, now_s: float) -> bool:
        if self._step_s < 0:
            return False
        took_s = now_s - self._step_s
        if self.first_step_s is None:
            self.first_step_s = took_s
            self.seconds = dict.fromkeys(PHASES, 0.0)
            self._since_s = now_s
            return True
        if len(self._steps) >= _MOST_STEPS:
            del self._steps[: _MOST_STEPS // 2]
        self._steps.append(took_s)
        return False

    def latest(self, count: int) -> Sequence[float]:
        """Return the seconds of the last `count` steps, without the first step."""
        return self._steps[len(self._steps) - min(count, len(self._steps)) :]


def percentiles_ms(seconds: Sequence[float]) -> dict[str, float]:
    """Return the p50, p90, p99 and mean of step times in milliseconds; empty without steps.

    Example:
        >>> percentiles_ms([0.001, 0.002, 0.003])["p50"]
        2.0
    """
    if not len(seconds):
        return {}
    times_ms: Any = 1000.0 * np.asarray(seconds)
    p50, p90, p99 = np.percentile(times_ms, (50, 90, 99))
    found = {"p50": p50, "p90": p90, "p99": p99, "mean": times_ms.mean()}
    return {name: round(float(value), 4) for name, value in found.items()}


@dataclass(frozen=True)
class Spent:
    """One rank's measurements between two moments, without its first step.

    Attributes:
        steps: calls of the training step, times the steps of a call.
        samples: the rank's own rows; None where unknown.
        seconds: by phase, see `phases.PHASES`.
        input_s: of these, waiting for data; None where it was not measured.
        exchange_s: of these, in collectives; None where it was not measured.
        counted: whether the samples were counted, and not taken from the batch size.
        step_s: the time of each of the latest steps; the steps of one call count as equal.
    """

    steps: int
    samples: float | None
    seconds: dict[str, float]
    input_s: float | None
    exchange_s: float | None
    counted: bool = False
    step_s: Sequence[float] = field(default=(), repr=False)

    @property
    def in_steps_s(self) -> float:
        """The time of the steps, with what belongs to them: all but the evaluations."""
        return sum(self.seconds[name] for name in PHASES if name != EVALUATION)

    def to_array(self) -> NDArray[np.float64]:
        """Return the measurements without `step_s` as numbers, to be sent or summed over ranks.

        Returns:
            float64 [5 + phases]; NaN for None, so that a sum is None where one of its parts is.
        """
        numbers = (self.samples, self.input_s, self.exchange_s)
        known = [np.nan if each is None else each for each in numbers]
        seconds = [self.seconds[name] for name in PHASES]
        return np.array([self.steps, self.counted, *known, *seconds], np.float64)

    @classmethod
    def from_array(cls, numbers: NDArray[np.float64]) -> Spent:
        """Return the measurements of `to_array`; of a sum, `steps` are those of all ranks."""
        steps, counted, *known = numbers[:5].tolist()
        samples, input_s, exchange_s = (None if np.isnan(each) else each for each in known)
        seconds = dict(zip(PHASES, numbers[5:].tolist(), strict=True))
        return cls(round(steps), samples, seconds, input_s, exchange_s, bool(counted))


@dataclass
class _Mark:
    """The counts up to a moment."""

    calls: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    waits: Waits = field(default_factory=Waits)


class Meter:
    """Measures one training on one rank.

    Args:
        model: the trained model.
        engine: connects the ranks.
        batch_size: rows of this rank in a step, None where unknown.
        on_gpu: whether the model computes on a GPU, whose sums of gradients the host's clock cannot
            time.

    Attributes:
        flops: the count for a row's forward pass.
        has_clock: see `Stopwatch`.
    """

    def __init__(
        self, model: Any, engine: Engine, batch_size: int | None, *, on_gpu: bool = False
    ) -> None:
        self._model, self._engine = model, engine
        self._on_gpu = on_gpu
        self._at_once = int(model.steps_per_execution)
        self._stopwatch: Stopwatch = stopwatch_of(model)
        self.phases = Phases()
        self.flops = self._stopwatch.flops
        self.has_clock = self._stopwatch.has_clock
        self._outside = Waits()  # those of evaluations and of the first step
        self._calls = self._all_calls = 0
        self._rows_of_call = self._at_once * (batch_size or 0)
        self._start = self._latest = _Mark()
        self._paused_at = Waits()

    def watch_first_step(self) -> None:
        """Put the measurement into the graph of the model's next training step, which is traced."""
        chain = chain_of(self._model)
        self._before = self._engine.stopwatch  # that of a fit in whose callback this fit runs
        self._engine.stopwatch = self._stopwatch

        def first(train: TrainFunction, iterator: Any) -> Any:
            chain.remove(Place.TIMING)
            with ExitStack() as around:
                around.enter_context(self._stopwatch.on_input(iterator))
                if not self.flops.forward:
                    around.enter_context(self.flops.on())
                return train(iterator)

        chain.put(Place.TIMING, first)

    def stop(self) -> None:
        """Stop adding the measurement to steps that are traced from now on."""
        chain_of(self._model).remove(Place.TIMING)
        if self._engine.stopwatch is self._stopwatch:
            self._engine.stopwatch = self._before

    def begin_step(self) -> None:
        """Record the start of a step, before its callbacks."""
        if self.phases.begin_step():
            self._begin()
        self.phases.enter(CALLBACKS)

    def end_step(self) -> None:
        """Record the end of a step, before its callbacks."""
        self._calls += 1
        self._all_calls += 1
        self.phases.enter(CALLBACKS)

    def end_steps(self) -> None:
        """Record that an epoch's last step is over."""
        if self.phases.end_steps():
            self._begin()

    def _begin(self) -> None:
        """Reset all counts, after the first step, which compiles."""
        self._calls = 0
        self._outside = self._stopwatch.read()
        self._start = self._latest = _Mark()

    def begin_evaluation(self) -> None:
        """Record the start of an evaluation, which is not part of the training's time."""
        self.end_steps()
        self.phases.enter(EVALUATION)
        self._paused_at = self._stopwatch.read()

    def end_evaluation(self) -> None:
        """Record the end of an evaluation."""
        self.phases.enter(TRAINING)
        passed = self._stopwatch.read() - self._paused_at
        self._outside = self._outside - (Waits() - passed)

    def samples(self) -> float:
        """Return the rows of this rank's training so far, by batch size where not counted."""
        return self._stopwatch.read().rows or float(self._all_calls * self._rows_of_call)

    def take(self) -> Spent:
        """Return the measurements since the last call."""
        before, self._latest = self._latest, self._mark()
        return self._between(before, self._latest)

    def whole(self, *, with_steps: bool = True) -> Spent:
        """Return the measurements since the first step.

        Args:
            with_steps: whether to include each step's time; there may be a million.
        """
        return self._between(self._start, self._mark(), with_steps=with_steps)

    def _mark(self) -> _Mark:
        self.phases.enter(self.phases.phase)
        waits = self._stopwatch.read() - self._outside
        return _Mark(self._calls, dict(self.phases.seconds), waits)

    def _between(self, begin: _Mark, end: _Mark, *, with_steps: bool = True) -> Spent:
        calls, waits = end.calls - begin.calls, end.waits - begin.waits
        is_whole = round(waits.batches) == calls > 0
        samples = waits.rows if is_whole else None
        if samples is None:
            samples = float(calls * self._rows_of_call)
        return Spent(
            calls * self._at_once,
            samples or None,
            {name: end.seconds[name] - begin.seconds[name] for name in PHASES},
            waits.input_s if is_whole and self.has_clock else None,
            waits.exchange_s if waits.exchanges and not self._on_gpu else None,
            is_whole,
            [each / self._at_once for each in self.phases.latest(calls if with_steps else 0)],
        )

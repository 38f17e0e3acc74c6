"""A fit's performance record: measured on each rank, combined and written by root."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_candle.engine.base import Engine
from keras_candle.performance import hardware
from keras_candle.performance.hardware import GpuWatch
from keras_candle.performance.meter import CALLBACKS, CHECKPOINT, INPUT, TRAINING, Meter, Spent
from keras_candle.performance.record import (
    amounts,
    earlier_rank_s,
    how,
    rates,
    scaling_efficiency,
    summary,
    times,
    verdict,
)
from keras_candle.run_directory import RunDirectory, replace_file
from keras_candle.training.fit_chain import FitHook, Place

_OF_EPOCH = ("samples_per_s", "step_ms", "split")


class PerformanceRecorder(FitHook):
    """Measures one fit and writes performance.json.

    Args:
        directory: the run directory.
        engine: connects the ranks.
        model: the trained model.
        batch_size: this rank's batch size; None where the data do not know it.
        every_s: interval of writing the file, by root's clock.
        is_verbose: whether to print a line with the throughput and the verdict at the end.
    """

    place = Place.TIMING

    def __init__(
        self,
        directory: RunDirectory,
        engine: Engine,
        model: Any,
        batch_size: int | None,
        every_s: float,
        *,
        is_verbose: bool,
    ) -> None:
        self._directory, self._engine, self._model = directory, engine, model
        self._is_verbose = is_verbose
        self._gpus = hardware.gpu_names()
        self.meter = Meter(model, engine, batch_size, on_gpu=bool(self._gpus))
        self._gpu_watch = GpuWatch(0)
        self._every_s = every_s
        self._began_s = self._written_s = time.monotonic()
        self._earlier_rank_s = 0.0

    def begin_fit(self) -> None:
        """Begin to measure, before the first step."""
        if self._engine.is_root:
            with contextlib.suppress(OSError):  # the record may lack the cost of earlier attempts
                self._earlier_rank_s = earlier_rank_s(self._directory.events_of_attempts())
            if self._gpus:
                self._gpu_watch.start()
        self.meter.watch_first_step()

    def before_epoch(self, epoch: int) -> None:  # noqa: ARG002
        """Enter the callbacks of an epoch's beginning."""
        self.meter.phases.enter(CALLBACKS)

    def begin_epoch(self, epoch: int) -> None:  # noqa: ARG002
        """Enter the wait for the first batch."""
        self.meter.phases.enter(INPUT)

    def before_step(self) -> None:
        """Begin a step with its callbacks."""
        self.meter.begin_step()

    def begin_step(self) -> None:
        """Enter the step itself."""
        self.meter.phases.enter(TRAINING)

    def end_step(self) -> None:
        """End a step; its callbacks follow."""
        self.meter.end_step()

    def after_step(self, done: int, logs: Any) -> None:  # noqa: ARG002
        """Enter the checkpoint that may be due."""
        self.meter.phases.enter(CHECKPOINT)

    def leave_step(self) -> None:
        """Enter the training loop again."""
        self.meter.phases.enter(TRAINING)

    def before_evaluation(self) -> None:
        """Begin an evaluation."""
        self.meter.begin_evaluation()

    def after_evaluation(self) -> None:
        """End an evaluation."""
        self.meter.end_evaluation()

    def end_epoch(self) -> None:
        """End the epoch's last step; the callbacks of its end follow."""
        self.meter.end_steps()
        self.meter.phases.enter(CALLBACKS)

    def after_epoch(self, *_: Any) -> None:
        """Enter the checkpoint of an epoch."""
        self.meter.phases.enter(CHECKPOINT)

    def leave_epoch(self) -> None:
        """Enter no phase until the next epoch."""
        self.meter.phases.enter("")

    def of_epoch(self) -> dict[str, Any]:
        """Return the performance since the last epoch; every rank must call it.

        Returns:
            "samples_per_s", "step_ms" and "split", on root.
        """
        engine, own = self._engine, self.meter.take()
        # The time of writing is root's: the sum tells all ranks.
        due = engine.is_root and time.monotonic() - self._written_s >= self._every_s
        *total, writes = engine.allreduce([*own.to_array(), due])
        longest_s = float(engine.allreduce(own.in_steps_s, "max"))
        if writes:
            self.write()
        found = rates(own, Spent.from_array(np.array(total)), longest_s, engine.size)
        return {name: found[name] for name in _OF_EPOCH if name in found}

    def write(self) -> dict[str, Any]:
        """Write performance.json; every rank must call it.

        Without a step, as of a finished run that is started again, an earlier record stays.

        Returns:
            The record, on root; elsewhere, and without a step, an empty dict.
        """
        of_ranks = self._engine.gather_to_root(self.meter.whole(with_steps=False).to_array())
        if of_ranks is None or self.meter.phases.first_step_s is None:
            return {}
        return self._write([self.meter.whole(), *map(Spent.from_array, of_ranks[1:])])

    def _write(self, ranks: Sequence[Spent]) -> dict[str, Any]:
        self._written_s = time.monotonic()
        record = self._record(ranks)
        path = self._directory.performance
        try:
            replace_file(path, json.dumps(record, indent=1).encode(), durable=True)
        except OSError as cause:
            self._engine.print_on_root(f"{path} cannot be written ({cause}).")
        return record

    def _record(self, ranks: Sequence[Spent]) -> dict[str, Any]:
        engine, whole_s = self._engine, time.monotonic() - self._began_s
        found: dict[str, Any] = {"ranks": engine.size, "engine": engine.name, **summary(ranks)}
        own = found.pop("own", ())
        first_s = self.meter.phases.first_step_s
        if first_s is not None:
            found["step_ms"] = {"first": round(1000 * first_s, 3), **found.get("step_ms", {})}
        found["time_s"] = times(ranks, whole_s)
        found["memory"] = hardware.memory()
        dtype, device = self._model.compute_dtype, self._gpus[0] if self._gpus else ""
        peak = hardware.peak_flops(device, dtype)
        parameters = self._model.count_params() if self._model.built else None
        found |= amounts(found, parameters, self.meter.flops, peak)
        gpu = self._gpu_watch.read()
        if gpu:
            found["gpu"] = {"name": device, **gpu}
        rank_s = self._earlier_rank_s + whole_s * engine.size
        found["cost"] = {"core_s": round(rank_s * hardware.cores(engine.local_size), 3)}
        if self._gpus:
            found["cost"]["device_s"] = round(rank_s, 3)
        found |= scaling_efficiency(found, self._directory.path)
        sentence = verdict(found.get("split", {}), own)
        if sentence:
            found["verdict"] = sentence
        counted = all(each.counted for each in ranks)
        found["measured"] = how(
            found, counted=counted, on_gpu=bool(self._gpus), has_clock=self.meter.has_clock
        )
        return found

    def before_exit(self) -> None:
        """Write the record."""
        self.write()

    def after_fit(self) -> None:
        """Write the record and print its summary."""
        record = self.write()
        if not self._is_verbose:
            return
        rate = record.get("samples_per_s")
        if rate is not None and "verdict" in record:
            ranks = "1 rank" if self._engine.size == 1 else f"{self._engine.size} ranks"
            self._engine.print_on_root(f"{rate:,.0f} samples/s on {ranks}; {record['verdict']}")

    def close(self) -> None:
        """Stop measuring."""
        self.meter.stop()
        self._gpu_watch.stop()

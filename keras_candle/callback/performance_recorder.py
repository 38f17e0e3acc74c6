"""A fit's performance record: measured on each rank, combined and written by root."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from keras_candle.checkpoints import files
from keras_candle.performance import hardware
from keras_candle.performance.meter import Meter, Spent
from keras_candle.performance.nvml import GpuWatch
from keras_candle.performance.record import amounts, how, summary, times
from keras_candle.performance.runs import earlier_rank_s, scaling_efficiency
from keras_candle.performance.verdict import verdict
from keras_candle.resume.run_session import RunSession

_OF_EPOCH = ("samples_per_s", "step_ms", "split")


class PerformanceRecorder:
    """Measures one fit and writes performance.json.

    Args:
        run: session of the run directory.
        model: the trained model.
        batch_size: this rank's batch size; None where the data do not know it.
        every_s: interval of writing the file, by root's clock.
    """

    def __init__(self, run: RunSession, model: Any, batch_size: int | None, every_s: float) -> None:
        self._run, self._model, self._engine = run, model, run.engine
        self._gpus = hardware.gpu_names()
        self.meter = Meter(model, run.engine, batch_size, on_gpu=bool(self._gpus))
        self._gpu_watch = GpuWatch(0)
        self._every_s = every_s
        self._began_s = self._written_s = time.monotonic()
        self._earlier_rank_s = 0.0

    def begin(self, step: int) -> None:
        """Begin to measure, before the first step; every rank must call it."""
        engine = self._engine
        hosts = list(dict.fromkeys(engine.gather_objects(socket.gethostname())))
        if engine.is_root:
            with contextlib.suppress(OSError):  # the record may lack the cost of earlier attempts
                self._earlier_rank_s = earlier_rank_s(self._run.directory.events())
            if self._gpus:
                self._gpu_watch.start()
        self._run.log_event("begin", step=step, ranks=engine.size, hosts=hosts)
        self.meter.watch_first_step()

    def epoch(self) -> dict[str, Any]:
        """Return the performance since the last epoch; every rank must call it.

        Returns:
            "samples_per_s", "step_ms" and "split", on root.
        """
        own, whole = self.meter.take(), self.meter.whole(with_steps=False)
        sent = self._engine.gather_objects((replace(own, step_s=()), whole))
        # Only root writes, so that no collective depends on its clock.
        if self._engine.is_root and time.monotonic() - self._written_s >= self._every_s:
            self._write([self.meter.whole(), *(each for _, each in sent[1:])])
        found = summary([own, *(each for each, _ in sent[1:])])
        return {name: found[name] for name in _OF_EPOCH if name in found}

    def write(self) -> dict[str, Any]:
        """Write performance.json; every rank must call it.

        Returns:
            The record, on root; elsewhere an empty dict.
        """
        own = self.meter.whole(with_steps=False)
        of_ranks = self._engine.gather_objects(own)
        return self._write([self.meter.whole(), *of_ranks[1:]]) if self._engine.is_root else {}

    def _write(self, ranks: Sequence[Spent]) -> dict[str, Any]:
        self._written_s = time.monotonic()
        record = self._record(ranks)
        path = self._run.directory.performance
        try:
            files.replace(path, json.dumps(record, indent=1).encode())
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
        found |= scaling_efficiency(found, self._run.directory.path)
        sentence = verdict(found.get("split", {}), own)
        if sentence:
            found["verdict"] = sentence
        counted = all(each.counted for each in ranks)
        found["measured"] = how(
            found, counted=counted, on_gpu=bool(self._gpus), has_clock=self.meter.has_clock
        )
        return found

    def end(self, *, print_summary: bool) -> None:
        """Write the record; every rank must call it.

        Args:
            print_summary: whether to print a line with the throughput and the verdict.
        """
        record = self.write()
        if not print_summary:
            return
        rate = record.get("samples_per_s")
        if rate is not None and "verdict" in record:
            ranks = "1 rank" if self._engine.size == 1 else f"{self._engine.size} ranks"
            self._engine.print_on_root(f"{rate:,.0f} samples/s on {ranks}; {record['verdict']}")

    def stop(self) -> None:
        """Stop measuring, however the fit ended."""
        self.meter.stop()
        self._gpu_watch.stop()

"""Connect the watchdog to one fit."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from keras_candle.engine.base import Engine
from keras_candle.launcher_messages import CollectiveObserver
from keras_candle.watchdog.rank_watch import RankWatch

# Longer than the compilation of a first step, or an evaluation's longest batch.
_ON_SEVERAL_RANKS_S = 600.0


class WatchdogHook:
    """Starts and stops the watchdog of this rank for one fit.

    Args:
        engine: connects the ranks.
        timeout: `stall_timeout` of `CandleCallback`.
        run_directory: directory of the report.
    """

    def __init__(self, engine: Engine, timeout: float | str | None, run_directory: Path) -> None:
        self._engine = engine
        if isinstance(timeout, str):
            timeout = _ON_SEVERAL_RANKS_S if engine.size > 1 else None
        self._timeout_s = timeout
        self._run_directory = run_directory
        self._watch: RankWatch | None = None

    def start(self) -> None:
        """Start the watchdog; every rank must call it."""
        if self._timeout_s is None:
            return
        engine = self._engine
        watch: RankWatch | None = None
        problem, address = "", {}
        try:
            watch = RankWatch(
                engine.rank,
                self._timeout_s,
                self._run_directory,
                on_one_node=engine.local_size == engine.size,
            )
            address = watch.address() if engine.is_root else {}
            problem = "" if address or not engine.is_root else "its watcher process ended at once"
        except Exception as cause:
            problem = f"{type(cause).__name__}: {cause}"
        started = engine.gather_objects((address, problem))
        failed = {rank: each for rank, (_, each) in enumerate(started) if each}
        if failed:
            listed = "; ".join(f"rank {rank}: {each}" for rank, each in failed.items())
            engine.print_on_root(
                f"The watchdog cannot be started, so no rank is watched ({listed})."
            )
            if watch is not None:
                watch.stop()
            return
        watch = cast("RankWatch", watch)
        watch.connect(started[0][0])
        self._watch = watch
        engine.observers = (*engine.observers, watch.board)
        self._before = engine.on_graph_collective  # that of an outer fit
        engine.on_graph_collective = watch.board.add_to_graph

    def beat(self, epoch: int, step: int, place: int) -> None:
        """Report progress to the watchdog.

        Args:
            epoch: the current epoch.
            step: completed steps of the run.
            place: see `keras_candle.watchdog.heartbeat`.
        """
        if self._watch is not None:
            self._watch.board.beat(epoch, step, place)

    def stop(self) -> None:
        """Stop the watchdog."""
        if self._watch is not None:
            board: CollectiveObserver = self._watch.board
            observers = self._engine.observers
            self._engine.observers = tuple(each for each in observers if each is not board)
            self._engine.on_graph_collective = self._before
            self._watch.stop()
            self._watch = None

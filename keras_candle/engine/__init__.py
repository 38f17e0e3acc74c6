"""Start, find and stop the engine that connects the ranks.

Example:
    >>> from keras_candle import engine
    >>> engine.start("single").size
    1
    >>> float(engine.current().allreduce(2.0))
    2.0
    >>> engine.stop()
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

from keras_candle import launcher_messages
from keras_candle.cluster import launchers
from keras_candle.engine.abort import abort_job_on_failure
from keras_candle.engine.base import Engine
from keras_candle.errors import EngineError
from keras_candle.launcher_messages import ENGINE, ENGINE_STARTS

__all__ = ["Engine", "current", "make", "start", "stop", "use"]

# name -> module and class, imported when first used.
ENGINES = {
    "single": ("keras_candle.engine.single", "SingleEngine"),
    "mpi": ("keras_candle.engine.mpi", "MpiEngine"),
    "horovod": ("keras_candle.engine.horovod", "HorovodEngine"),
}

_running: list[Engine] = []


def start(name: str = "auto") -> Engine:
    """Start the engine, or return the one that runs.

    Args:
        name: "horovod", "mpi", "single", or "auto": single when no launcher started this
            process, else horovod where it is built, else mpi. The environment variable
            KERAS_CANDLE_ENGINE (set by `candle run --engine`) replaces "auto".

    Returns:
        The engine, the same one until `stop()`.

    Raises:
        EngineError: when the name is unknown, the engine is not installed, another one runs, or
            the launcher started several ranks that do not find each other.
    """
    wanted = os.environ.get(ENGINE, "auto") if name == "auto" else name
    if wanted not in ("auto", *ENGINES):
        raise EngineError(
            f"engine={wanted!r} is unknown, expected one of 'auto', "
            f"{', '.join(map(repr, ENGINES))}."
        )
    if _running:
        engine = _running[-1]
        if wanted in ("auto", engine.name) or engine.size == 1:
            return engine
        raise EngineError(
            f"engine={wanted!r} was asked for, but {engine.name!r} already runs. "
            "Use one engine in a program, or call candle.engine.stop() first."
        )
    engine = _choose() if wanted == "auto" else make(wanted)
    _running.append(engine)
    return engine


def current() -> Engine:
    """Return the running engine; start one if none runs."""
    return _running[-1] if _running else start()


def stop() -> None:
    """Stop the engine. `start` may be called again."""
    while _running:
        _running.pop().stop()


@contextmanager
def use(engine: Engine) -> Iterator[Engine]:
    """Make another engine, such as a group's, the current one inside a `with` block.

    Args:
        engine: the engine that `current()` returns there.
    """
    _running.append(engine)
    try:
        yield engine
    finally:
        _running.remove(engine)


def _choose() -> Engine:
    if not launchers.may_have_launcher():
        return make("single")
    if launchers.promised_size() == 1 and make("mpi").size == 1:
        return make("single")
    try:
        engine = make("horovod")
    except EngineError as missing:
        engine = make("mpi")
        reason = f" ({missing})"
    else:
        reason = ""
    engine.print_on_root(f"{engine.size} ranks, engine {engine.name}{reason}")
    return engine


def make(name: str) -> Engine:
    """Make a new engine, beside the one that runs.

    Args:
        name: "horovod", "mpi" or "single".

    Raises:
        EngineError: when it is not installed, or the ranks do not find each other.
    """
    # Before the engine is made: Horovod's sets variables like those of a launcher.
    launcher, promised = launchers.detect(), launchers.promised_size()
    module, kind = ENGINES[name]
    with _watched_start(name):
        made: Engine = getattr(importlib.import_module(module), kind)()
    made.observers = tuple(launcher_messages.observers)
    if launcher and name != "single" and made.size == 1 < promised:
        made.stop()
        raise EngineError(
            f"{launcher.name} started {promised} ranks, but each finds itself alone: "
            f"{launchers.remedy_of(launcher, os.environ)}."
        )
    if made.size > 1 and not launcher_messages.is_supervised():
        abort_job_on_failure(importlib.import_module("mpi4py.MPI"))
    return made


@contextmanager
def _watched_start(name: str) -> Iterator[None]:
    """Report the start to observers: MPI and Horovod wait for all ranks of the job there."""
    observers = launcher_messages.observers if name != "single" else []
    for each in observers:
        each.begin_collective(f"{ENGINE_STARTS} {name} engine", ())
    try:
        yield
    finally:
        for each in observers:
            each.end_collective()

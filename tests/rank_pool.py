"""Real ranks that stay warm: importing TensorFlow takes seconds, most tests take less.

A test hands a module-level function to all ranks of an MPI job and gets back what each rank
returned. If the ranks do not answer in time the job is killed and the test fails: a hang is a
failure.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

from keras_candle.launch.process import end_with_parent

ROOT = Path(__file__).parent.parent
START_TIMEOUT_S = 120


class RankError(AssertionError):
    """A function failed on some rank, or the ranks did not answer."""


class RankPool:
    """N ranks of one MPI job that wait for functions.

    Attributes:
        module: what each rank runs; it calls `serve`.
    """

    module = "tests.rank_pool"

    def __init__(self, size: int) -> None:
        self.size = size
        self._job: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._folder: Any = None

    def run(
        self, function: Callable[..., Any], *, timeout_s: float = 120, engine: str = "mpi", **kwargs
    ) -> list[Any]:
        """Call function(**kwargs) on every rank under an engine; returns the results by rank."""
        if self._job is None:
            self._start()
        name = f"{function.__module__}:{function.__qualname__}"
        self._connection.send((name, engine, kwargs))
        if not self._connection.poll(timeout_s):
            raise RankError(f"{name} did not end in {timeout_s} s.\n{self.stop()}")
        try:
            results = self._connection.recv()
        except EOFError:
            raise RankError(f"{name}: the job ended.\n{self.stop()}") from None
        failures = [f"rank {r}: {text}" for r, (ok, text) in enumerate(results) if not ok]
        if failures:
            raise RankError("\n".join(failures))
        return [value for _, value in results]

    def errors(self, function: Callable[..., Any], **kwargs) -> list[str]:
        """Call a function that has to fail on every rank; returns 'ErrorClass: message' by rank."""
        return self.run(catch, target=f"{function.__module__}:{function.__qualname__}", **kwargs)

    def log(self) -> str:
        """What the ranks have printed."""
        return (Path(self._folder.name) / "log").read_text(errors="replace")

    def _start(self) -> None:
        key = secrets.token_bytes(16)
        self._folder = tempfile.TemporaryDirectory(prefix="ranks-", ignore_cleanup_errors=True)
        with Listener(("127.0.0.1", 0), authkey=key) as listener:
            environment = {
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "RANK_POOL_PORT": str(listener.address[1]),
                "RANK_POOL_KEY": key.hex(),
                # TensorFlow leaves files there when it is killed.
                "TMPDIR": self._folder.name,
                "OMP_NUM_THREADS": "1",
                "TF_NUM_INTRAOP_THREADS": "1",
                "TF_NUM_INTEROP_THREADS": "2",
                "TF_CPP_MIN_LOG_LEVEL": "3",
                # Horovod's own thread of each rank wakes up so often (ms), also between tests.
                "HOROVOD_CYCLE_TIME": "10",
            }
            us = os.getpid()
            mpiexec = Path(sys.executable).parent / "mpiexec"
            with open(Path(self._folder.name) / "log", "wb") as log:
                self._job = subprocess.Popen(
                    [mpiexec, "-n", str(self.size), sys.executable, "-m", self.module],
                    env=environment,
                    cwd=ROOT,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    # This process has one thread.
                    preexec_fn=lambda: end_with_parent(us),  # noqa: PLW1509
                )
            listener._listener._socket.settimeout(START_TIMEOUT_S)
            self._connection = listener.accept()

    def stop(self) -> str:
        """End the job, whatever its ranks are doing; returns what they printed last."""
        if self._job is None:
            return ""
        os.killpg(self._job.pid, signal.SIGKILL)
        self._job.wait()
        self._connection.close()
        self._job = self._connection = None
        tail = self.log()[-4000:]
        self._folder.cleanup()
        return tail


def resolve(name: str) -> Callable[..., Any]:
    import importlib

    module, _, path = name.partition(":")
    return getattr(importlib.import_module(module), path)


def catch(target: str, **kwargs) -> str:
    try:
        resolve(target)(**kwargs)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    raise AssertionError(f"{target} raised nothing")


def next_function(world: Any, parent: Connection | None) -> Any:
    """The next thing to do. A rank that waits in a collective would burn its core meanwhile."""
    if parent:
        task = parent.recv()
        for rank in range(1, world.size):
            world.send(task, rank)
        return task
    return receive(world, 0)


def receive(world: Any, rank: int) -> Any:
    nap_s = 0.001
    while not world.iprobe(source=rank):
        time.sleep(nap_s)
        nap_s = min(1.1 * nap_s, 0.02)
    return world.recv(source=rank)


def serve() -> None:
    """What each rank of the job does."""
    import gc
    import traceback
    from multiprocessing.connection import Client

    import keras
    from mpi4py import MPI

    from keras_candle import engine as engines
    from keras_candle.engine import make

    world = MPI.COMM_WORLD
    parent = None
    if world.rank == 0:
        address = ("127.0.0.1", int(os.environ["RANK_POOL_PORT"]))
        parent = Client(address, authkey=bytes.fromhex(os.environ["RANK_POOL_KEY"]))
    made: dict[str, Any] = {}
    while True:
        name, engine, kwargs = next_function(world, parent)
        keras.utils.clear_session()
        # It collects garbage. What is left are modules and caches: to look through them takes up to
        # 0.2 s each time.
        gc.freeze()
        try:
            if engine not in made:
                made[engine] = make(engine)
            with engines.use(made[engine]):
                result = (True, resolve(name)(**kwargs))
        except BaseException:
            result = (False, traceback.format_exc())
            print(f"rank {world.rank}: {result[1]}", file=sys.stderr, flush=True)
        if parent:
            parent.send([result, *(receive(world, rank) for rank in range(1, world.size))])
        else:
            world.send(result, 0)


if __name__ == "__main__":
    serve()

"""Resume check (`candle verify-resume`): log and kill trainings, then compare their final states.

A rank's program runs in a copy of the user's folder and logs its run directories and steps
(`fit_recorder`, `event_log`), and one rank of an attempt is killed. Afterwards
`python -m keras_candle.verification.compare_resumes` compares a training that was killed with one
that was not.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import time
from collections.abc import Callable
from pathlib import Path

from keras_candle import run_directory
from keras_candle.launcher_messages import VERIFY_RESUME
from keras_candle.seeding import seed_unseeded
from keras_candle.verification.event_log import KILLED, EventLog
from keras_candle.when_imported import when_imported


def prepare() -> None:
    """Install the event log and the killer in this rank's process, before the program begins.

    All random generators get a seed, the same one after each kill. The program's own seeds come
    later and take precedence.
    """
    settings = json.loads(os.environ[VERIFY_RESUME])
    places = RunCopies(settings["original"], settings["scratch"], settings["elsewhere"])
    os.chdir(places.copy)
    os.environ["PWD"] = places.copy
    event_log = EventLog(settings["told"])
    kill = settings["kill"]
    # Forked now, while this process has one thread.
    killer = None if kill is None else Killer(lambda: event_log.append(KILLED))
    run_directory.resolve = places.resolve
    seed_unseeded(int(settings["seed"]))

    def watch(callback_module: object) -> None:
        from keras_candle.verification.fit_recorder import FitRecorder

        FitRecorder(event_log, places, kill, killer).install(callback_module)

    when_imported("keras_candle.callback.candle_callback", watch)


_DELAY = struct.Struct("d")


class Killer:
    """Forks a process that kills this one on request; make it before this process has threads.

    Args:
        before_kill: called in the forked process, right before the kill.
    """

    def __init__(self, before_kill: Callable[[], object]) -> None:
        rank = os.getpid()
        reading, writing = os.pipe()
        if os.fork() == 0:
            os.close(writing)
            _wait_and_kill(rank, reading, before_kill)
        os.close(reading)
        self._pipe = writing

    def kill_in(self, delay_s: float) -> None:
        """Kill this process with SIGKILL after a delay in seconds."""
        os.write(self._pipe, _DELAY.pack(delay_s))


def _wait_and_kill(rank: int, pipe: int, before_kill: Callable[[], object]) -> None:
    request = os.read(pipe, _DELAY.size)  # empty when the rank has ended
    if request:
        time.sleep(_DELAY.unpack(request)[0])
        if os.getppid() == rank:
            before_kill()
            os.kill(rank, signal.SIGKILL)
    os._exit(0)


class RunCopies:
    """Maps the paths of run directories into a copy of the user's folder.

    Args:
        original: the user's folder, absolute and without links.
        scratch: the folder of the copy, in which the program runs; the copy has the same path in
            it as the original below the root.
        elsewhere: an empty folder for run directories outside of the user's folder.
    """

    def __init__(self, original: str, scratch: str, elsewhere: str) -> None:
        self._original, self._scratch = os.path.realpath(original), os.path.realpath(scratch)
        self._elsewhere = os.path.realpath(elsewhere)

    @property
    def copy(self) -> str:
        """The copy of the user's folder."""
        return os.path.join(self._scratch, os.path.relpath(self._original, os.sep))

    def name_of(self, path: str | os.PathLike[str]) -> str:
        """Return a run directory's name, which is the same in every copy.

        Args:
            path: the program's path, or a resolved one.

        Returns:
            Its path in the user's folder, or an absolute one outside.
        """
        real = os.path.realpath(path)
        for folder in (self._scratch, self._elsewhere):
            if _is_in(real, folder):
                real = os.path.join(os.sep, os.path.relpath(real, folder))
        return os.path.relpath(real, self._original) if _is_in(real, self._original) else real

    def resolve(self, path: Path) -> Path:
        """Return the absolute path of a run directory's copy; a path in the copy maps to itself."""
        name = self.name_of(path)
        if os.path.isabs(name):
            return Path(self._elsewhere, os.path.relpath(name, os.sep))
        return Path(self.copy, name)


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(os.path.join(folder, ""))

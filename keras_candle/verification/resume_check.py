"""Resume check (`candle verify-resume`): log and kill trainings, then compare their final states.

A rank's program runs in a copy of the user's folder and logs its run directories and steps
(`fit_recorder`, `event_log`), and one rank of an attempt is killed (`killer`). Afterwards
`python -m keras_candle.verification.compare_resumes` compares a training that was killed with one
that was not.
"""

from __future__ import annotations

import json
import os

from keras_candle import run_directory
from keras_candle.seeding import seed_unseeded
from keras_candle.verification.event_log import KILLED, EventLog
from keras_candle.verification.killer import Killer
from keras_candle.verification.run_copies import RunCopies
from keras_candle.when_imported import when_imported

# JSON object: original, scratch and elsewhere as `RunCopies` takes them, the folder for the event
# log, the seed, and the kill (rank, directory, step, delay_s) or null.
VARIABLE = "KERAS_CANDLE_VERIFY_RESUME"


def prepare() -> None:
    """Install the event log and the killer in this rank's process, before the program begins.

    All random generators get a seed, the same one after each kill. The program's own seeds come
    later and take precedence.
    """
    settings = json.loads(os.environ[VARIABLE])
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

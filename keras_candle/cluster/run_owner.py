"""The submitted job that a run directory belongs to, as long as it waits for its next start."""

from __future__ import annotations

import getpass
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

from keras_candle.cluster.job_folder import JobFolder
from keras_candle.cluster.schedulers import answer_of
from keras_candle.cluster.status import QUEUES, Answer, Phase, statuses
from keras_candle.errors import EXIT_RUN_AGAIN, LaunchError
from keras_candle.launcher_messages import JOB


def waiting_owner(job_file: Path, environment: Mapping[str, str] = os.environ) -> str:
    """Return the job that will resume a run at its next start, unless it is this one; else "".

    A running one holds the lock of the run directory. The scheduler is asked only where that job's
    last start has saved and asked to be run again.

    Args:
        job_file: job.json of the run directory.
        environment: variables of this process.
    """
    try:
        facts = json.loads(job_file.read_text())
        folder, element = JobFolder(Path(facts["folder"])), facts["element"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    attempts = folder.attempts(element)
    if str(folder.path) == environment.get(JOB) or not attempts:
        return ""
    queue = QUEUES.get(folder.facts().get("scheduler", ""))
    if attempts[-1].code != EXIT_RUN_AGAIN or queue is None:
        return ""
    try:
        answer = Answer(time.time(), tuple(queue.read(answer_of(queue.query(_user())))))
    except LaunchError:
        return ""  # a node from which the scheduler cannot be asked
    waits = [
        each
        for each in statuses(folder, queue, answer)
        if each.element in (element, None) and each.state.phase is Phase.WAITING
    ]
    return f"job {facts.get('id')} ({folder.path})" if waits else ""


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container often has no name for it
        return str(os.getuid())

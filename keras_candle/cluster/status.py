"""The states of submitted jobs: one question to the scheduler for all of them, and their folders.

The scheduler's words are read by a table, and a word that is not in it stays visible. Most sites'
Slurm forgets a job minutes after its end, and many keep no accounts: then the job's folder decides.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import fcntl
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_candle.cluster.job_folder import Attempt, JobFolder
from keras_candle.cluster.schedulers import ANSWER_WITHIN_S, answer_of
from keras_candle.errors import EXIT_RUN_AGAIN, LaunchError

ASK_EVERY_S = 10.0


class Phase(enum.Enum):
    """How far a job has come."""

    WAITING = "waiting"
    RUNNING = "running"
    ENDED = "ended"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class State:
    """The state of a job.

    Attributes:
        name: as `candle status` shows it.
        phase: how far the job has come.
        meaning: a phrase on what the name does not make plain; may be empty.
        is_cause: whether the scheduler gives a cause that the job's exit code does not.
    """

    name: str
    phase: Phase
    meaning: str = ""
    is_cause: bool = False


QUEUED = State("queued", Phase.WAITING)
HELD = State("held", Phase.WAITING, "it waits until it is released")
REQUEUED = State("requeued", Phase.WAITING, "it waits for its next start")
STARTING = State("starting", Phase.RUNNING, "its nodes are prepared")
RUNNING = State("running", Phase.RUNNING)
SUSPENDED = State("suspended", Phase.RUNNING, "its processes stand still until they are resumed")
ENDING = State("ending", Phase.RUNNING, "its processes end and its nodes are cleaned up")
FINISHED = State("finished", Phase.ENDED, "its exit code is not known")
COMPLETED = State("completed", Phase.ENDED)
FAILED = State("failed", Phase.ENDED)
CANCELLED = State("cancelled", Phase.ENDED)
SAVED = State("saved", Phase.ENDED, "it was stopped and is not requeued; submit it again to go on")
PREEMPTED = State(
    "preempted", Phase.ENDED, "a job of higher priority took its nodes", is_cause=True
)
TIMED_OUT = State("out of time", Phase.ENDED, "it ran into its time limit", is_cause=True)
OUT_OF_MEMORY = State(
    "out of memory", Phase.ENDED, "a process needed more than the job may have", is_cause=True
)
NODE_FAILED = State("node failed", Phase.ENDED, "one of its nodes was lost", is_cause=True)
BOOT_FAILED = State(
    "boot failed", Phase.ENDED, "its nodes could not be prepared; nothing of it ran", is_cause=True
)
REVOKED = State("revoked", Phase.ENDED, "another cluster runs it", is_cause=True)
SUBMITTED = State("submitted", Phase.WAITING, "the scheduler has not been asked since")
LOST = State(
    "lost",
    Phase.ENDED,
    "its end was not recorded and the scheduler has forgotten it: its node failed or it was killed",
)
FORGOTTEN = State(
    "forgotten", Phase.ENDED, "it has not started here and the scheduler does not know it any more"
)
NOT_SUBMITTED = State("not submitted", Phase.WAITING, "its script was written, it has no id")


def unknown(word: str) -> State:
    """Return the state for a word that is in no table, or for a missing answer."""
    return State(f"unknown ({word})", Phase.UNKNOWN)


@dataclass(frozen=True)
class QueueEntry:
    """A job, or one element of a job array, in its scheduler's words.

    Attributes:
        job: the id, without the element and the server's name.
        element: of an array; None where the entry is a whole job.
        word: the state, in the scheduler's word.
        detail: why it waits, its nodes or the time left, as far as the scheduler says.
    """

    job: str
    element: int | None
    word: str
    detail: str = ""


@dataclass(frozen=True)
class Queue:
    """How a scheduler is asked for a user's jobs, signals one and ends one.

    Attributes:
        scheduler: its name, as in job.json.
        query: returns the command that lists all jobs of a user (name or number).
        read: returns the entries of that command's output.
        states: what its words mean.
        signal: the command that sends SIGUSR1 to a job's processes; its id is appended.
        cancel: the command that ends a job; its id is appended.
        element: how an element's id is written, from the job's and its number.
        first_element: the number of the first element in the scheduler's own count.
        history: as `query`, for jobs that the query has forgotten; None where it keeps them.
    """

    scheduler: str
    query: Callable[[str], Sequence[str]]
    read: Callable[[str], list[QueueEntry]]
    states: Mapping[str, State]
    signal: Sequence[str]
    cancel: Sequence[str]
    element: str = "{job}[{element}]"
    first_element: int = 0
    history: Callable[[str], Sequence[str]] | None = None

    def state_of(self, word: str) -> State:
        """Return what one of the scheduler's words means."""
        return self.states.get(word) or unknown(word)

    def id_of(self, job: str, element: int | None) -> str:
        """Return the id of a job or of its element, as the scheduler's commands take it."""
        if element is None:
            return job
        # PBS: 12[].server is the array, 12[3].server its element.
        number, _, server = job.partition(".")
        name = self.element.format(
            job=number.removesuffix("[]"), element=element + self.first_element
        )
        return f"{name}.{server}" if server else name


def _slurm_entries(printed: str) -> list[QueueEntry]:
    """Read lines of id, state and details, separated by |."""
    found = []
    for line in printed.splitlines():
        job, *fields = line.strip().split("|")
        match = re.fullmatch(r"(\d+)(?:_(\d+))?(?:\+0)?", job)
        if match is None or not fields:
            continue
        # sacct: "CANCELLED by 1000".
        word = fields[0].partition(" ")[0]
        details = [text for text in fields[1:] if text not in ("", "None", "N/A", "(null)")]
        found.append(QueueEntry(match[1], _number(match[2]), word, ", ".join(details)))
    return found


def _pbs_entries(printed: str) -> list[QueueEntry]:
    """Read the table of `qstat -u`: its tenth column is the state, its last one the time used."""
    found = []
    for line in printed.splitlines():
        fields = line.split()
        match = re.match(r"(\d+)(?:\[(\d*)\])?(?:\.|$)", fields[0]) if fields else None
        if match is not None and len(fields) >= 11:
            found.append(QueueEntry(match[1], _number(match[2]), fields[9]))
    return found


def _lsf_entries(printed: str) -> list[QueueEntry]:
    """Read lines of job id, index in the array, state and reason."""
    found = []
    for line in printed.splitlines():
        job, _, rest = line.strip().partition("|")
        index, _, rest = rest.partition("|")
        word, _, reason = rest.partition("|")
        if job.isdigit() and word:
            # LSF counts elements from 1 and shows 0 for a job without an array.
            element = int(index) - 1 if index.isdigit() and index != "0" else None
            found.append(QueueEntry(job, element, word, "" if reason == "-" else reason.strip()))
    return found


def _flux_entries(printed: str) -> list[QueueEntry]:
    found = []
    for line in printed.splitlines():
        job, _, rest = line.strip().partition("|")
        word, _, detail = rest.partition("|")
        if job and word:
            found.append(QueueEntry(job, None, word, detail))
    return found


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


_OF_SLURM = {
    "PENDING": QUEUED,
    "REQUEUED": REQUEUED,
    "REQUEUE_FED": REQUEUED,
    "REQUEUE_HOLD": dataclasses.replace(HELD, meaning="it was requeued and waits until released"),
    "SPECIAL_EXIT": dataclasses.replace(HELD, meaning="it was requeued and waits until released"),
    "RESV_DEL_HOLD": dataclasses.replace(HELD, meaning="its reservation was removed"),
    "CONFIGURING": STARTING,
    "RUNNING": RUNNING,
    "RESIZING": RUNNING,
    "SIGNALING": RUNNING,
    "SUSPENDED": SUSPENDED,
    "STOPPED": SUSPENDED,
    "COMPLETING": ENDING,
    "STAGE_OUT": ENDING,
    "COMPLETED": COMPLETED,
    "FAILED": FAILED,
    "LAUNCH_FAILED": BOOT_FAILED,
    "CANCELLED": CANCELLED,
    "PREEMPTED": PREEMPTED,
    "TIMEOUT": TIMED_OUT,
    "DEADLINE": TIMED_OUT,
    "NODE_FAIL": NODE_FAILED,
    "BOOT_FAIL": BOOT_FAILED,
    "OUT_OF_MEMORY": OUT_OF_MEMORY,
    "REVOKED": REVOKED,
}
_OF_PBS = {
    "Q": QUEUED,
    "W": dataclasses.replace(QUEUED, meaning="its earliest start has not come"),
    "T": dataclasses.replace(QUEUED, meaning="it is moved to another place"),
    "M": REVOKED,
    "H": HELD,
    "B": dataclasses.replace(RUNNING, meaning="at least one element has started"),
    "R": RUNNING,
    "S": SUSPENDED,
    "U": SUSPENDED,
    "E": ENDING,
    "X": FINISHED,
    "F": FINISHED,
}
_OF_LSF = {
    "PEND": QUEUED,
    "WAIT": QUEUED,
    "PSUSP": HELD,
    "PROV": STARTING,
    "RUN": RUNNING,
    "USUSP": SUSPENDED,
    "SSUSP": SUSPENDED,
    "DONE": COMPLETED,
    "EXIT": FAILED,
    "ZOMBI": NODE_FAILED,
}
_OF_FLUX = {
    "DEPEND": dataclasses.replace(QUEUED, meaning="it waits for another job"),
    "PRIORITY": QUEUED,
    "SCHED": QUEUED,
    "RUN": RUNNING,
    "CLEANUP": ENDING,
    "COMPLETED": COMPLETED,
    "FAILED": FAILED,
    "CANCELED": CANCELLED,
    "TIMEOUT": TIMED_OUT,
}
# Only Slurm's was run against the real scheduler; the rest is written from the documentation.
QUEUES = {
    each.scheduler: each
    for each in (
        Queue(
            "slurm",
            lambda user: [
                "squeue",
                "--noheader",
                "--array",
                "--states=all",
                f"--user={user}",
                "--format=%i|%T|%r|%N",
            ],
            _slurm_entries,
            _OF_SLURM,
            # The script alone: it passes the signal on to `candle run`, and that to the ranks.
            signal=("scancel", "--quiet", "--batch", "--signal=USR1"),
            cancel=("scancel", "--quiet"),
            element="{job}_{element}",
            history=lambda user: [
                "sacct",
                "--allocations",
                "--noheader",
                "--parsable2",
                f"--user={user}",
                "--starttime=now-30days",
                "--format=JobID,State",
            ],
        ),
        Queue(
            "pbs",
            lambda user: ["qstat", "-x", "-t", "-w", "-u", user],
            _pbs_entries,
            _OF_PBS,
            signal=("qsig", "-s", "USR1"),
            cancel=("qdel",),
        ),
        Queue(
            "lsf",
            lambda user: [
                "bjobs",
                "-a",
                "-noheader",
                "-u",
                user,
                "-o",
                "jobid jobindex stat pend_reason delimiter='|'",
            ],
            _lsf_entries,
            _OF_LSF,
            signal=("bkill", "-s", "USR1"),
            cancel=("bkill",),
            first_element=1,
        ),
        Queue(
            "flux",
            lambda user: [
                "flux",
                "jobs",
                "--filter=pending,running,inactive",
                f"--user={user}",
                "--no-header",
                "--format={id.f58}|{status}|{nodelist}",
            ],
            _flux_entries,
            _OF_FLUX,
            signal=("flux", "job", "kill", "--signal=SIGUSR1"),
            cancel=("flux", "cancel"),
        ),
    )
}


@dataclass(frozen=True)
class Answer:
    """A scheduler's answer for all jobs of a user.

    Attributes:
        asked_s: seconds since the epoch.
        entries: of all jobs that it knows.
        error: why there is no answer; empty where there is one.
        has_history: whether its accounts were asked, too.
    """

    asked_s: float
    entries: tuple[QueueEntry, ...] = ()
    error: str = ""
    has_history: bool = False

    def of(self, job: str) -> list[QueueEntry]:
        """Return the entries of a job: one, or those of its elements."""
        number = plain_id(job)
        return [each for each in self.entries if plain_id(each.job) == number]


def plain_id(job: str) -> str:
    """Return an id as all of the scheduler's commands write it.

    Example:
        >>> plain_id("12[].server"), plain_id("ƒ3xA"), plain_id("12;cluster")
        ('12', '3xA', '12')
    """
    return re.split(r"[.;\[]", job)[0].removeprefix("ƒ").removeprefix("f")


class SchedulerView:
    """A scheduler's answers, one for all calls of this user within some seconds.

    Args:
        queue: how it is asked.
        user: the user's name.
        cache: the file that keeps the last answer.
        ask_every_s: an answer is used for so long.
        within_s: how long to wait for one.
    """

    def __init__(
        self,
        queue: Queue,
        user: str,
        cache: Path,
        ask_every_s: float = ASK_EVERY_S,
        within_s: float = ANSWER_WITHIN_S,
    ) -> None:
        self.queue = queue
        self._user, self._cache = user, cache
        self._ask_every_s, self._within_s = ask_every_s, within_s

    def answer(self, needed: Iterable[str] = ()) -> Answer:
        """Return the last answer, or ask for a new one where that is old.

        An answer that did not come is kept for as long: a controller that is overloaded is not
        asked by every call.

        Args:
            needed: ids of jobs whose end nobody has recorded. Where the queue has forgotten one of
                them, the scheduler's accounts are asked, if it keeps any.
        """
        with _locked(self._cache, 2 * self._within_s):
            known = self._cached()
            found = self._asked() if known is None else known
            if not (found.error or found.has_history or all(map(found.of, needed))):
                found = self._with_history(found)
            if found is not known:
                self._keep(found)
        return found

    def _asked(self) -> Answer:
        asked_s = time.time()
        try:
            entries = self.queue.read(answer_of(self.queue.query(self._user), self._within_s))
        except LaunchError as error:
            return Answer(asked_s, error=str(error))
        return Answer(asked_s, tuple(entries))

    def _with_history(self, answer: Answer) -> Answer:
        past: list[QueueEntry] = []
        if self.queue.history is not None:
            # Without accounts, as on a cluster without slurmdbd, the command fails.
            with contextlib.suppress(LaunchError):
                past = self.queue.read(answer_of(self.queue.history(self._user), self._within_s))
        forgotten = [each for each in past if not answer.of(each.job)]
        return dataclasses.replace(answer, entries=(*answer.entries, *forgotten), has_history=True)

    def _cached(self) -> Answer | None:
        try:
            kept: dict[str, Any] = json.loads(self._cache.read_text())
            entries = tuple(QueueEntry(**each) for each in kept.pop("entries"))
            found = Answer(**kept, entries=entries)
            # A clock that was set back does not keep an answer for hours.
            is_new = 0 <= time.time() - found.asked_s < self._ask_every_s
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return found if is_new else None

    def _keep(self, answer: Answer) -> None:
        part = self._cache.with_name(f"{self._cache.name}-{os.getpid()}")
        with contextlib.suppress(OSError):
            part.write_text(json.dumps(dataclasses.asdict(answer)))
            part.replace(self._cache)


@contextlib.contextmanager
def _locked(cache: Path, within_s: float) -> Iterator[None]:
    """Let one process at a time ask.

    Without locks or a writable folder each asks by itself, and so does who has waited too long: the
    process with the lock may be suspended.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            cache.parent.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(open(cache.with_name(f"{cache.name}.lock"), "w"))
            deadline_s = time.monotonic() + within_s
            while time.monotonic() < deadline_s:
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                time.sleep(0.05)
        yield


@dataclass(frozen=True)
class Status:
    """What has become of a job, or of one element of its array.

    Attributes:
        element: of an array; None for a whole job.
        state: its state.
        detail: a phrase on why, and on what to do.
        attempts: its starts.
    """

    element: int | None
    state: State
    detail: str
    attempts: tuple[Attempt, ...]


def statuses(folder: JobFolder, queue: Queue, answer: Answer) -> list[Status]:
    """Return the status of a job, or of each element of its array.

    Args:
        folder: the job's.
        queue: of its scheduler.
        answer: the scheduler's.
    """
    facts = folder.facts()
    elements = elements_of(facts)
    if not elements:
        whole = answer.of(str(facts.get("id") or ""))
        return [_status(folder, None, next(iter(whole), None), queue, answer)]
    found = {number: _entry_of(facts, number, answer) for number in elements}
    return [_status(folder, number, entry, queue, answer) for number, entry in found.items()]


def _entry_of(facts: Mapping[str, Any], element: int, answer: Answer) -> QueueEntry | None:
    """The entry of an element: of its own job where the scheduler has no arrays."""
    ids = facts.get("ids")
    if ids:
        return next(iter(answer.of(str(ids[element]))), None) if element < len(ids) else None
    entries = answer.of(str(facts.get("id") or ""))
    # An array that has not begun, or one of PBS that has ended, can be a single entry.
    fitting = [each for each in entries if each.element in (element, None)]
    return max(fitting, key=lambda each: each.element is not None, default=None)


def has_no_end(folder: JobFolder) -> bool:
    """Return whether the folder leaves open how the job ended, or whether it has."""
    for element in elements_of(folder.facts()) or (None,):
        last = folder.attempts(element)[-1:]
        if not folder.is_cancelled(element) and (not last or last[0].code is None):
            return True
    return False


def elements_of(facts: Mapping[str, Any]) -> list[int]:
    """Return the elements of a job's array; empty without one.

    Args:
        facts: the content of job.json.
    """
    array = facts.get("array")
    return list(range(array)) if isinstance(array, int) else []


def _status(
    folder: JobFolder, element: int | None, entry: QueueEntry | None, queue: Queue, answer: Answer
) -> Status:
    attempts = tuple(folder.attempts(element))
    if entry and entry.element != element and attempts and attempts[-1].code is not None:
        entry = None  # the array's, which is on for others
    cancelled = folder.is_cancelled(element)
    state, detail = _decide(folder, attempts, entry, queue, answer, cancelled=cancelled)
    return Status(element, state, detail or state.meaning, attempts)


def _decide(
    folder: JobFolder,
    attempts: Sequence[Attempt],
    entry: QueueEntry | None,
    queue: Queue,
    answer: Answer,
    *,
    cancelled: bool,
) -> tuple[State, str]:
    """Decide by the scheduler while the job is in its hands, then by the job's own exit code."""
    last = attempts[-1] if attempts else None
    state = queue.state_of(entry.word) if entry else None
    is_newer = last is not None and max(last.started_s, last.ended_s or 0.0) > answer.asked_s
    if last and is_newer and not answer.error and (entry or last.code == EXIT_RUN_AGAIN):
        # The answer is older; a job that has saved may be requeued by now.
        return RUNNING if last.code is None else ENDING, ""
    if entry and state and state.phase is not Phase.ENDED:
        return _in_queue(state, entry, attempts)
    if state and state.is_cause:
        return state, ""
    cancelled = cancelled or state is CANCELLED
    if last and last.code is not None and not (cancelled and last.code):
        return _by_code(last.code, attempts, answer)
    if cancelled:
        return CANCELLED, _saved(attempts)
    return (state, "") if state else _undecided(folder.facts(), last, answer)


def _in_queue(state: State, entry: QueueEntry, attempts: Sequence[Attempt]) -> tuple[State, str]:
    if state is QUEUED and attempts:
        return REQUEUED, f"it waits for start {len(attempts) + 1}: {entry.detail}"
    return state, ": ".join(filter(None, (state.meaning, entry.detail)))


def _by_code(code: int, attempts: Sequence[Attempt], answer: Answer) -> tuple[State, str]:
    if code == 0:
        return COMPLETED, ""
    if code != EXIT_RUN_AGAIN:
        return FAILED, f"exit code {code}"
    saved = _saved(attempts)
    if answer.error:
        return unknown("no answer"), "; ".join(filter(None, (saved, answer.error)))
    return SAVED, "; ".join(filter(None, (saved, SAVED.meaning)))


def _undecided(facts: Mapping[str, Any], last: Attempt | None, answer: Answer) -> tuple[State, str]:
    """The state of a job whose end was not recorded, and that is not in the queue."""
    if not facts.get("id"):
        return NOT_SUBMITTED, ""
    if answer.error:
        began = f"started {_clock(last.started_s)}; " if last else ""
        return unknown("no answer"), f"{began}{answer.error}"
    if last and last.started_s >= answer.asked_s:
        return RUNNING, ""
    if (facts.get("submitted_s") or 0.0) >= answer.asked_s:
        return SUBMITTED, ""
    return (LOST, f"started {_clock(last.started_s)}; {LOST.meaning}") if last else (FORGOTTEN, "")


def _saved(attempts: Sequence[Attempt]) -> str:
    steps = [step for each in attempts for step in each.saved_steps]
    if steps:
        return f"saved at step {steps[-1]}"
    return "it had no checkpoint" if attempts else "before its start"


def _clock(time_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(time_s))

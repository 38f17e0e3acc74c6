"""`candle cancel`: end a submitted job, after it has saved."""

import argparse
import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from keras_candle.cluster.schedulers import answer_of
from keras_candle.cluster.status import ASK_EVERY_S, QUEUES, Phase, Queue, Status
from keras_candle.errors import LaunchError
from keras_candle.launch.logs import all_statuses, find_job
from keras_candle.launch.status import FoundJob

_SAVED_WITHIN_S = 300.0
_SCRIPT_ENDS_WITHIN_S = 30.0
_POLL_S = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `candle cancel`."""
    parser.add_argument(
        "jobs",
        nargs="+",
        metavar="JOB",
        help="a job's name or folder, or a run directory; that of an array's element ends this "
        "element alone",
    )
    parser.add_argument(
        "--now", action="store_true", help="end it at once; what is not saved yet is lost"
    )
    parser.add_argument(
        "--within",
        type=float,
        default=_SAVED_WITHIN_S,
        metavar="SECONDS",
        help="how long a job may take to save before it is ended (default: %(default)g)",
    )


def run(options: argparse.Namespace) -> int:
    """Cancel each job and print what became of it.

    Args:
        options: as `add_arguments` describes them.

    Returns:
        0; 1 when a job did not save in time.

    Raises:
        LaunchError: there is no such job, or its scheduler refuses; a job before it in the list is
            cancelled by then.
    """
    if options.within < 0:
        raise LaunchError(f"--within got {options.within:g}, expected 0 seconds or more")
    jobs = [find_job(each) for each in options.jobs]
    return max([cancel(job, now=options.now, within_s=options.within) for job in jobs])


def cancel(job: FoundJob, *, now: bool, within_s: float, ask_every_s: float = ASK_EVERY_S) -> int:
    """Cancel a job: what runs saves first, what waits ends at once.

    Args:
        job: the job, or an element of its array.
        now: whether nothing is saved.
        within_s: how long it may take to save.
        ask_every_s: how often the scheduler is asked.

    Returns:
        The exit code.

    Raises:
        LaunchError: it has no id, or the scheduler refuses.
    """
    facts = job.folder.facts()
    if not facts.get("id"):
        raise LaunchError(
            f"{job.name} has no id in {job.folder.path}/job.json: it was not submitted, or the "
            "file is damaged. Look for the job in the scheduler's own list"
        )
    queue = QUEUES[facts["scheduler"]]
    found = all_statuses(job, ask_every_s)
    left = [each for each in found if each.state.phase is not Phase.ENDED]
    if not left:
        print(f"{job.name} has ended already: {_summary(found)}")
        return 0
    waiting = [each.element for each in left if each.state.phase is Phase.WAITING]
    running = [each.element for each in left if each.state.phase is not Phase.WAITING]
    with _marked(job):
        if waiting or now:
            _end(job, queue, facts, waiting + running if now else waiting)
        if running and not now:
            _ask_to_save(job, queue, facts, running)
    if running and not now:
        print(f"{job.name}: saves and ends, for at most {within_s:g} s", flush=True)
        saved = _wait(job, running, within_s, ask_every_s)
        _end_the_rest(job, queue, facts, ask_every_s)
        print(f"{job.name}: {_summary(all_statuses(job, 0.0))}")
        if not saved:
            print(f"{job.name}: it had not ended {within_s:g} s after it was asked to")
        return 0 if saved else 1
    print(f"{job.name}: ended without a further save" if running else f"{job.name}: ended")
    return 0


@contextlib.contextmanager
def _marked(job: FoundJob) -> Iterator[None]:
    """Mark the job as cancelled before any signal, so that its script does not requeue it.

    The mark is taken back where the scheduler refuses to end the job.
    """
    try:
        job.folder.cancel(job.element)
    except OSError as cause:
        raise LaunchError(
            f"{job.folder.path} cannot be written ({cause}), so the job would be requeued. It was "
            "not ended"
        ) from cause
    try:
        yield
    except LaunchError:
        job.folder.keep(job.element)
        raise


def _ask_to_save(
    job: FoundJob, queue: Queue, facts: Mapping[str, Any], elements: Sequence[int | None]
) -> None:
    # One by one: a call that names an element which has just ended fails for all that it names.
    refusals = []
    for element in elements:
        try:
            _call(queue.signal, queue, facts, [element])
        except LaunchError as refusal:
            refusals.append(refusal)
    runs = (Phase.RUNNING, Phase.UNKNOWN)
    if len(refusals) == len(elements) and _is_any(runs, job, elements):
        raise LaunchError(
            f"{job.name} cannot be asked to save ({refusals[0]}), and was not ended. candle cancel "
            "--now ends it without"
        )


def _end(
    job: FoundJob, queue: Queue, facts: Mapping[str, Any], elements: Sequence[int | None]
) -> None:
    try:
        _call(queue.cancel, queue, facts, elements)
    except LaunchError:
        if _is_any((Phase.WAITING, Phase.RUNNING, Phase.UNKNOWN), job, elements):
            raise


def _is_any(phases: Sequence[Phase], job: FoundJob, elements: Sequence[int | None]) -> bool:
    """Ask the scheduler whether one of the elements is in one of the phases."""
    found = [each for each in all_statuses(job, 0.0) if each.element in elements]
    return any(each.state.phase in phases for each in found)


def _wait(
    job: FoundJob, elements: Sequence[int | None], within_s: float, ask_every_s: float
) -> bool:
    """Wait until `candle run` has ended in each element; return whether it did."""
    deadline_s = time.monotonic() + within_s
    asked_s, left = time.monotonic(), set(elements)
    while left and time.monotonic() < deadline_s:
        left -= {each for each in left if _has_ended(job, each)}
        if time.monotonic() - asked_s >= ask_every_s:
            asked_s = time.monotonic()
            # Its nodes are gone, or it was requeued just before.
            left &= {
                each.element
                for each in all_statuses(job, ask_every_s)
                if each.state.phase in (Phase.RUNNING, Phase.UNKNOWN)
            }
        time.sleep(_POLL_S if left else 0)
    return not left


def _has_ended(job: FoundJob, element: int | None) -> bool:
    attempts = job.folder.attempts(element)
    return bool(attempts) and attempts[-1].code is not None


def _end_the_rest(
    job: FoundJob, queue: Queue, facts: Mapping[str, Any], ask_every_s: float
) -> None:
    """Let the job's script end by itself, and end the rest of the job."""
    deadline_s = time.monotonic() + _SCRIPT_ENDS_WITHIN_S
    while True:
        found = all_statuses(job, ask_every_s)
        left = [each for each in found if each.state.phase is not Phase.ENDED]
        scripts = [
            each
            for each in left
            if each.state.phase is Phase.RUNNING and _has_ended(job, each.element)
        ]
        if not scripts or len(scripts) < len(left) or time.monotonic() > deadline_s:
            break
        time.sleep(_POLL_S)
    if left:
        _end(job, queue, facts, [each.element for each in left])


def _call(
    command: Sequence[str],
    queue: Queue,
    facts: Mapping[str, Any],
    elements: Sequence[int | None],
) -> None:
    own = facts.get("ids")
    ids = [
        queue.id_of(str(facts["id"]), each) if each is None or not own else str(own[each])
        for each in elements
    ]
    answer_of([*command, *ids])


def _summary(found: Sequence[Status]) -> str:
    if len(found) == 1:
        return f"{found[0].state.name}{f', {found[0].detail}' if found[0].detail else ''}"
    counts = Counter(each.state.name for each in found)
    return ", ".join(f"{number} {name}" for name, number in counts.items())

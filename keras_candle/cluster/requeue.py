"""Requeue a job that has saved its state, and decide when not to.

python -m keras_candle.cluster.requeue FOLDER CODE [not-begun]

The script of `candle submit` calls it with the exit code of `candle run`. It prints one sentence
and returns the script's exit code.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from keras_candle.cluster.job_folder import Attempt, JobFolder, element_of, json_lines
from keras_candle.cluster.job_script import BATCH_SYSTEMS, NOT_BEGUN, BatchSystem, command_inside
from keras_candle.cluster.submission import answer, submit_again
from keras_candle.errors import EXIT_RUN_AGAIN, LaunchError

# The scheduler ends a requeued job; until then the script must not end by itself.
_ENDED_WITHIN_S = 60
_CANCELLED = 143
_WITHOUT_PROGRESS = 1
# The codes of a process that a signal has ended on which a training saves.
_SIGNALLED = (128 + signal.SIGTERM, 128 + signal.SIGUSR1)


class Decision(NamedTuple):
    """Whether to requeue a job, the sentence to print, and the exit code of one that is not."""

    requeue: bool
    sentence: str
    code: int


def decide(
    code: int, *, is_cancelled: bool, requeue_by: str, attempts: Sequence[Attempt]
) -> Decision:
    """Decide whether a job is requeued.

    Args:
        code: the exit code of its `candle run`.
        is_cancelled: whether `candle cancel` has ended it.
        requeue_by: "command", "exit-code" or "none".
        attempts: its starts, the last one included.

    Returns:
        With an empty sentence where there is nothing to decide.
    """
    if code != EXIT_RUN_AGAIN:
        return Decision(False, "", code)
    if is_cancelled:
        return Decision(False, "not requeued: candle cancel has ended this job", _CANCELLED)
    if requeue_by == "none":
        return Decision(False, "not requeued: --requeue-by none", code)
    if _without_progress(attempts):
        return Decision(
            False,
            "not requeued: two starts have ended without a new checkpoint, and a third would do "
            "the same. Give the job a longer walltime, or save earlier",
            _WITHOUT_PROGRESS,
        )
    if requeue_by == "exit-code":
        return Decision(False, f"exit code {code} leaves it to the scheduler to requeue", code)
    return Decision(True, "", code)


def _without_progress(attempts: Sequence[Attempt]) -> bool:
    """Return whether the last two starts have both saved nothing that was not there before."""
    steps = [set(each.saved_steps) for each in attempts]
    last = max(steps[-3], default=None) if len(steps) > 2 else None
    return (
        len(steps) > 1
        and all(each.ended_s is not None for each in attempts[-2:])
        and not steps[-1] - steps[-2] - {last}
        and not steps[-2] - {last}
    )


def startup_warning(
    started_s: float, ended_s: float, events: Sequence[Mapping[str, object]]
) -> str:
    """Return a warning if a start has trained for a shorter time than it took to begin, else "".

    Args:
        started_s: of `candle run`, in seconds since the epoch.
        ended_s: likewise.
        events: the journals of its run directories.
    """
    begins = [
        _number(each.get("time_s"))
        for each in events
        if each.get("event") == "begin" and started_s <= _number(each.get("time_s")) <= ended_s
    ]
    if not begins:
        return ""
    begun_s = min(begins)
    saved_s = max(
        [_number(e.get("time_s")) for e in events if _is_save(e, begun_s)], default=begun_s
    )
    if saved_s - begun_s >= begun_s - started_s:
        return ""
    return (
        f"this start trained for {saved_s - begun_s:.0f} s after a start-up of "
        f"{begun_s - started_s:.0f} s. Give the job a longer walltime, or let the signal "
        "before its end come later"
    )


def _is_save(event: Mapping[str, object], begun_s: float) -> bool:
    return event.get("event") == "checkpoint" and _number(event.get("time_s")) >= begun_s


def _number(value: object) -> float:
    return value if isinstance(value, float | int) else 0.0


def main(arguments: Sequence[str]) -> int:
    """Requeue the job of a folder if it asks for it.

    Args:
        arguments: the folder, the exit code of `candle run`, and `NOT_BEGUN` where the job was
            stopped before it.

    Returns:
        The exit code of the job's script.
    """
    folder, code = JobFolder(Path(arguments[0])), int(arguments[1])
    facts = folder.facts()
    element = element_of(os.environ)
    attempts = folder.attempts(element)
    if code in _SIGNALLED and (not attempts or attempts[-1].code not in (None, code)):
        _print(f"a signal came before candle run had begun: to be run again ({EXIT_RUN_AGAIN})")
        code = EXIT_RUN_AGAIN
        _log_start(folder, element, code)
    elif NOT_BEGUN in arguments[2:]:
        _log_start(folder, element, code)
    attempts = folder.attempts(element)
    decision = decide(
        code,
        is_cancelled=folder.is_cancelled(element),
        requeue_by=facts.get("requeue_by", "command"),
        attempts=attempts,
    )
    system = BATCH_SYSTEMS.get(facts.get("scheduler", ""))
    if decision.requeue and system is not None and _is_cancelled(system):
        sentence = f"not requeued: the job was ended by {system.title}'s own command"
        decision = Decision(False, sentence, _CANCELLED)
    # An end that a user has chosen says nothing about the walltime.
    if code == EXIT_RUN_AGAIN and attempts and decision.code != _CANCELLED:
        journals = [run / "journal.jsonl" for run in folder.run_directories(element)]
        events = [event for journal in journals for event in json_lines(journal)]
        ended_s = attempts[-1].ended_s or time.time()
        _print(startup_warning(attempts[-1].started_s, ended_s, events))
    _print(decision.sentence)
    if decision.requeue and system is None:
        _print(f"not requeued: {folder.path}/job.json does not name the scheduler")
    elif decision.requeue and system is not None:
        _requeue(system, folder)
    return decision.code


def _is_cancelled(system: BatchSystem) -> bool:
    """Return whether a user has ended this job past `candle cancel`, as far as can be known."""
    try:
        own_id = answer(system.own_id).strip() if system.own_id else ""
        words = command_inside(system.own_state, os.environ, own_id)
        return bool(words) and re.search(system.cancelled, answer(words)) is not None
    except (LaunchError, KeyError):
        return False


def _log_start(folder: JobFolder, element: int | None, code: int) -> None:
    """Record a start in which `candle run` was not called: it, too, has saved nothing."""
    restart = len(folder.attempts(element))
    try:
        folder.log_attempt("start", element, restart)
        folder.log_attempt("end", element, restart, code=code)
    except OSError as cause:
        _print(f"{folder.path} cannot be written ({cause})")


def _requeue(system: BatchSystem, folder: JobFolder) -> None:
    """Requeue the job, or else submit it anew; print what happened."""
    refusals = []
    if system.requeue:
        # Before the command: the job may end with it.
        _print(f"{' '.join(system.requeue[:-1])} starts the job again")
        # The scheduler ends this start with it.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(EXIT_RUN_AGAIN))
        try:
            answer(command_inside(system.requeue, os.environ))
            time.sleep(_ENDED_WITHIN_S)
            return
        except (LaunchError, KeyError) as refusal:
            refusals.append(str(refusal))
    if system.submit_after:
        try:
            _print(f"submitted again as job {submit_again(system, folder, os.environ)}")
            return
        except (LaunchError, KeyError, OSError) as refusal:
            refusals.append(str(refusal))
    _print(
        f"not requeued: {'; '.join(refusals)}. Submit it again, in {Path.cwd()}: "
        f"{' '.join(system.submit)} {'< ' * system.reads_stdin}{folder.script}"
    )


def _print(sentence: str) -> None:
    if sentence:
        print(f"candle: {sentence}", file=sys.stderr, flush=True)  # noqa: T201 - the job's output


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

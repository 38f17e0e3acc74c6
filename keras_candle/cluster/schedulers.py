"""Schedulers: the environment variables of a job, and its remaining walltime."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from keras_candle.errors import CandleError, LaunchError

ANSWER_WITHIN_S = 20.0
# Of the scheduler's commands themselves: a user's defaults would change what they print or do.
_DEFAULTS = ("SQUEUE_", "SCANCEL_", "SACCT_")


@dataclass(frozen=True)
class Scheduler:
    """The environment variables of a scheduler, and its query for a job's remaining time.

    Attributes:
        name: the scheduler's usual name.
        job_id: variable with the job id.
        command: the command that prints the remaining time; the job id is appended.
        read: returns the remaining seconds from the command's output; None where the job has no
            limit. Raises ValueError or KeyError for output that it cannot read.
        end_time: variable with the job's end, in seconds since the epoch; "" without one.
        node_lists: variables that are set in each job, also where `job_id` is not.
        node_counts: variables with the number of nodes.
        node_name: variable with this node's name, on compute nodes only.
        index: variable with the number of an array's element, where the job's id is the array's.
    """

    name: str
    job_id: str
    command: Sequence[str]
    read: Callable[[str], float | None]
    end_time: str = ""
    node_lists: Sequence[str] = ()
    node_counts: Sequence[str] = ()
    node_name: str = ""
    index: str = ""


def seconds_of(text: str) -> float:
    """Return the seconds of a duration, as Slurm and PBS print it.

    Args:
        text: [[days-]hours:]minutes:seconds, or a number of seconds.

    Raises:
        ValueError: when it has another format.

    Example:
        >>> seconds_of("1-02:00:30"), seconds_of("02:05")
        (93630.0, 125.0)
    """
    days, _, clock = text.strip().rpartition("-")
    seconds = 0.0
    for part in clock.split(":"):
        seconds = 60 * seconds + float(part)
    return 86400 * int(days or 0) + seconds


def _of_slurm(printed: str) -> float | None:
    text = printed.strip()
    return None if text == "UNLIMITED" else seconds_of(text)


def _of_pbs(printed: str) -> float | None:
    found = dict(re.findall(r"(Resource_List|resources_used)\.walltime = ([\d:]+)", printed))
    if "Resource_List" not in found:
        return None
    # A job that has just begun has no resources_used yet.
    return seconds_of(found["Resource_List"]) - seconds_of(found.get("resources_used", "0"))


def _of_flux(printed: str) -> float | None:
    # Without a limit it prints the largest 32-bit number, or more.
    seconds = float(printed)
    return None if seconds >= 2**32 - 1 else seconds


def _of_lsf(printed: str) -> float | None:
    # "11:12 L": hours and minutes; L is a limit, E and X are estimates. "-": no limit.
    text, _, kind = printed.strip().partition(" ")
    return None if text == "-" or kind in ("E", "X") else 60 * seconds_of(text)


SLURM = Scheduler(
    "Slurm",
    "SLURM_JOB_ID",
    ("squeue", "--noheader", "-o", "%L", "-j"),
    _of_slurm,
    end_time="SLURM_JOB_END_TIME",
    node_lists=("SLURM_JOB_NODELIST", "SLURM_NODELIST"),
    node_counts=("SLURM_JOB_NUM_NODES", "SLURM_NNODES"),
    node_name="SLURMD_NODENAME",
)
SCHEDULERS = (
    SLURM,
    Scheduler("PBS", "PBS_JOBID", ("qstat", "-f"), _of_pbs),
    Scheduler(
        "LSF",
        "LSB_JOBID",
        ("bjobs", "-noheader", "-o", "time_left"),
        _of_lsf,
        index="LSB_JOBINDEX",
    ),
    # In a rank that `flux run` has started: its step ends with the job.
    Scheduler("Flux", "FLUX_JOB_ID", ("flux", "job", "timeleft"), _of_flux),
)


def job_id(environment: Mapping[str, str]) -> str:
    """Return the id of the job that this process is in; empty where there is none."""
    names = (each.job_id for each in SCHEDULERS)
    return next((environment[name] for name in names if name in environment), "")


def seconds_left(environment: Mapping[str, str], now_s: float) -> float | None:
    """Return the seconds until the scheduler ends this job.

    Args:
        environment: variables of this process.
        now_s: seconds since the epoch.

    Returns:
        None where there is no scheduler, or the job has no limit.

    Raises:
        CandleError: when the scheduler's output has no remaining time.
    """
    scheduler = next((each for each in SCHEDULERS if each.job_id in environment), None)
    if scheduler is None:
        return None
    try:
        element = environment.get(scheduler.index, "0")
        job = environment[scheduler.job_id] + (f"[{element}]" if element != "0" else "")
        return scheduler.read(answer_of([*scheduler.command, job]))
    except (LaunchError, ValueError, KeyError) as cause:
        ends_s = environment.get(scheduler.end_time, "")
        if ends_s.isdigit():
            return float(ends_s) - now_s
        raise CandleError(
            f"walltime='auto': cannot read from {' '.join(scheduler.command)} how long this "
            f"{scheduler.name} job may run ({cause}). Give it in seconds: walltime=43200."
        ) from cause


def answer_of(command: Sequence[str], within_s: float = ANSWER_WITHIN_S) -> str:
    """Run a scheduler's command and return what it prints.

    Args:
        command: the program and its arguments.
        within_s: how long to wait; then it is ended with all that it has started.

    Raises:
        LaunchError: it is not on PATH, gives no answer in time or an exit code other than 0.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith(_DEFAULTS)}
    try:
        asked = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**kept, "LC_ALL": "C"},
            # Many sites' commands are scripts: what they start holds the pipes open, too.
            start_new_session=True,
        )
    except OSError as cause:
        raise LaunchError(f"{command[0]} cannot be started ({cause})") from cause
    with asked:
        try:
            printed, problem = asked.communicate(timeout=within_s)
        except subprocess.TimeoutExpired:
            raise LaunchError(f"{command[0]} gave no answer within {within_s:g} s") from None
        finally:
            if asked.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(asked.pid, signal.SIGKILL)
    if asked.returncode:
        output = problem.strip() or printed.strip() or "it printed nothing"
        raise LaunchError(f"{command[0]} ended with code {asked.returncode}: {output}")
    return printed

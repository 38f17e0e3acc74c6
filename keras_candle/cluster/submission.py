"""Hand a job to its scheduler."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence

from keras_candle.cluster.job_folder import JobFolder, element_of
from keras_candle.cluster.job_script import BATCH_SYSTEMS, BatchSystem
from keras_candle.errors import LaunchError

_ANSWER_WITHIN_S = 60


def find_batch_system(name: str | None, path: str) -> BatchSystem:
    """Return the scheduler of a name, or the one whose command is on PATH.

    Args:
        name: as in --scheduler; None to look for it.
        path: directories of commands, as in PATH.

    Raises:
        LaunchError: its command is not on PATH; or without a name, none is there, or several.
    """
    found = [s for s in BATCH_SYSTEMS.values() if shutil.which(s.submit[0], path=path)]
    if name is not None:
        system = BATCH_SYSTEMS[name]
        if system not in found:
            raise LaunchError(
                f"there is no {system.submit[0]} on PATH, with which {system.title} takes jobs. "
                "Log in to a node from where jobs are submitted, or load the scheduler's module; "
                "--dry-run prints the script without it"
            )
        return system
    if not found:
        commands = ", ".join(each.submit[0] for each in BATCH_SYSTEMS.values())
        raise LaunchError(
            f"there is no scheduler on PATH ({commands}). On this machine alone: candle run -np N "
            "script.py; to see the script of a job: --scheduler slurm --dry-run"
        )
    if len(found) > 1:
        names = " and ".join(f"{each.submit[0]} ({each.title})" for each in found)
        raise LaunchError(f"there are {names} on PATH. Choose one: --scheduler {found[0].name}")
    return found[0]


def submit_job(
    system: BatchSystem, folder: JobFolder, options: Sequence[str] = (), element: int | None = None
) -> str:
    """Submit a job's script and return the job's id.

    Args:
        system: the scheduler.
        folder: the job's; the scheduler is called in the directory from which it is given.
        options: further words of the submit command, before the script.
        element: the one to submit, where the scheduler has no arrays.

    Raises:
        LaunchError: the scheduler refused it.
    """
    command = [*system.submit, *options]
    if system.reads_stdin:
        printed = answer(command, folder.script.read_text())
    else:
        elements = () if element is None else (str(element),)
        printed = answer([*command, str(folder.script), *elements])
    match = re.search(system.id_pattern, printed, re.MULTILINE)
    if match is None:
        raise LaunchError(f"{command[0]} printed no job id, but {printed.strip()!r}")
    return match[1]


def submit_elements(system: BatchSystem, folder: JobFolder, array: int, at_once: int) -> list[str]:
    """Submit each element of an array as a job, where the scheduler has no arrays.

    Args:
        system: the scheduler, with `submit_after`.
        folder: the job's.
        array: number of elements.
        at_once: how many of them run at once: each waits for the end of the one so many before it.

    Returns:
        Their ids.

    Raises:
        LaunchError: the scheduler refused one; it names those that were submitted before.
    """
    ids: list[str] = []
    for element in range(array):
        options = [system.submit_after.format(id=ids[-at_once])] if element >= at_once else []
        try:
            ids.append(submit_job(system, folder, options, element))
        except LaunchError as refusal:
            before = f"; submitted before it: {' '.join(ids)}" if ids else ""
            raise LaunchError(f"element {element}: {refusal}{before}") from refusal
    return ids


def submit_again(system: BatchSystem, folder: JobFolder, environment: Mapping[str, str]) -> str:
    """Submit the job in which this process runs once more, to begin when this one has ended.

    Args:
        system: a scheduler with `submit_after`.
        folder: the job's; job.json gets the new id.
        environment: variables of this process.

    Returns:
        The new id.

    Raises:
        LaunchError: the scheduler refused it, or the job is an element of an array of PBS.
        KeyError: the variable with this job's id is missing.
        OSError: job.json cannot be written.
    """
    element = element_of(environment)
    if system.has_arrays and element is not None:
        raise LaunchError(f"{system.submit[0]} cannot submit one element of an array")
    # A script of Flux runs inside of an instance of its own, whose parent knows the job.
    own = answer(system.own_id).strip() if system.own_id else environment[system.job_id]
    outside = dataclasses.replace(system, submit=system.submit_inside or system.submit)
    job = submit_job(outside, folder, system.submit_after.format(id=own).split(), element)
    facts = folder.facts()
    ids = [job if each == own else each for each in facts.get("ids") or [own]]
    folder.write_facts({**facts, "id": ids[0]} | ({"ids": ids} if element is not None else {}))
    return job


def answer(command: Sequence[str], script: str | None = None) -> str:
    """Run a scheduler's command and return what it printed.

    Args:
        command: the words.
        script: its standard input.

    Raises:
        LaunchError: it failed, with its own words, or did not answer.
    """
    try:
        done = subprocess.run(
            command,
            input=script or "",
            capture_output=True,
            text=True,
            check=False,
            timeout=_ANSWER_WITHIN_S,
        )
    except subprocess.TimeoutExpired as cause:
        raise LaunchError(
            f"{command[0]} did not answer within {_ANSWER_WITHIN_S} s; it may have done it all the "
            "same. Look for the job in the queue"
        ) from cause
    except OSError as cause:
        raise LaunchError(f"{command[0]} cannot be started: {cause}") from cause
    if done.returncode:
        words = " ".join((done.stderr.strip() or done.stdout.strip()).split("\n"))
        raise LaunchError(f"{command[0]} refused it: {words or f'exit code {done.returncode}'}")
    return done.stdout

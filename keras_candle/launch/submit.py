"""`candle submit`: hand a program to the cluster's scheduler as a job on N nodes."""

import argparse
import contextlib
import dataclasses
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from keras_candle.cluster.environment import FOLDER, Environment, find, pack, staging_lines
from keras_candle.cluster.job_folder import JOBS, JobFolder
from keras_candle.cluster.job_script import (
    BATCH_SYSTEMS,
    BatchSystem,
    JobRequest,
    array_of,
    check,
    job_script,
    walltime_of,
)
from keras_candle.cluster.settings import SETTINGS, Setting, resolve_settings
from keras_candle.cluster.status import Phase, State
from keras_candle.cluster.submission import find_batch_system, submit_elements, submit_job
from keras_candle.errors import LaunchError
from keras_candle.launch.logs import all_statuses
from keras_candle.launch.run import add_program, program_of
from keras_candle.launch.status import FoundJob

_POLL_S = 10.0
# A job that has just ended may not have written its last line yet, as this node sees the disk.
_LATE_POLLS = 6
_ONE_BY_ONE = {"directives": "directive", "environment": "environment"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `candle submit`: one for each setting, and those of this command alone."""
    parser.usage = (
        "candle submit [--nodes N] [--ranks-per-node M] [--walltime HH:MM:SS] [--array N[%%M]] "
        "[--dry-run] [...] (script.py | -m package.module) [args...]"
    )
    parser.epilog = "Every option can be in candle.toml in the working directory instead."
    for name, (kind, default, meaning) in SETTINGS.items():
        shown = f" (default: {default})" if default and kind is not list else ""
        option = f"--{_ONE_BY_ONE.get(name, name).replace('_', '-')}"
        if kind is bool:
            parser.add_argument(
                option, dest=name, action="store_const", const=True, help=meaning + shown
            )
        elif kind is list:
            parser.add_argument(
                option, dest=name, action="append", metavar="LINE", help=f"{meaning}; repeatable"
            )
        else:
            metavar = "N" if kind is int else name.upper()
            parser.add_argument(option, dest=name, type=kind, metavar=metavar, help=meaning + shown)
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print the script, and where each value comes from; submit nothing",
    )
    parser.add_argument(
        "--wait", action="store_true", help="wait until the job has ended and return its exit code"
    )
    add_program(parser)


def run(options: argparse.Namespace) -> int:
    """Submit the job, or print its script.

    Args:
        options: as `add_arguments` describes them.

    Returns:
        0; with --wait the job's exit code, of an array the largest of its elements'.

    Raises:
        LaunchError: the job cannot be asked for like this, or the scheduler refused it.
    """
    directory = Path.cwd()
    program = program_of("candle submit", options.module, options.script)
    given = {name: _given(getattr(options, name)) for name in SETTINGS}
    settings = resolve_settings(given, directory)
    values = {name: setting.value for name, setting in settings.items()}
    if options.dry_run and values["scheduler"]:
        system = BATCH_SYSTEMS[values["scheduler"]]
    else:
        system = find_batch_system(values["scheduler"], os.environ.get("PATH", os.defpath))
    job = request(values, program, str(directory))
    if values["stage_environment"]:
        environment = find(Path(sys.prefix), directory / JOBS / FOLDER)
        lines = staging_lines(environment, system.name, job.nodes)
        job = dataclasses.replace(job, staging=lines)
    check(system, job)
    script = job_script(system, job)
    if options.dry_run:
        print(script, end="")
        print(_origins(settings, system, job), file=sys.stderr)
        return 0
    _refuse_inside_a_job(os.environ)
    folder = JobFolder(Path(JOBS) / job.name)
    if values["stage_environment"]:
        _pack(environment)
    _submit(system, job, folder, script)
    return wait(folder, job.array) if options.wait else 0


def request(values: Mapping[str, Any], program: tuple[str, ...], directory: str) -> JobRequest:
    """Return the request for a job.

    Args:
        values: of all settings, by their names.
        program: the program's words.
        directory: absolute path of the working directory.

    Raises:
        LaunchError: the walltime or the array has another format.
    """
    array, array_limit = (None, None) if values["array"] is None else array_of(values["array"])
    taken = ("account", "queue", "queue_option", "chunk", "whole_nodes", "requeue_by")
    return JobRequest(
        name=_default_name(program) if values["name"] is None else values["name"],
        directory=directory,
        python=sys.executable,
        program=program,
        nodes=values["nodes"],
        ranks_per_node=values["ranks_per_node"],
        ranks=values["ranks"] or values["nodes"] * values["ranks_per_node"],
        gpus_per_rank=values["gpus_per_rank"],
        cores_per_rank=values["cores_per_rank"],
        walltime_s=None if values["walltime"] is None else walltime_of(values["walltime"]),
        directives=tuple(values["directives"]),
        environment=tuple(values["environment"]),
        array=array,
        array_limit=array_limit,
        run_options=_run_options(values),
        **{name: values[name] for name in taken},
    )


def _given(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _default_name(program: tuple[str, ...]) -> str:
    last = program[1].rpartition(".")[2] if program[0] == "-m" else Path(program[0]).stem
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("._-")[:64] or "job"


def _run_options(values: Mapping[str, Any]) -> tuple[str, ...]:
    options: list[str] = []
    if values["engine"] is not None:
        options += ["--engine", values["engine"]]
    if values["max_restarts"]:
        options += ["--max-restarts", str(values["max_restarts"])]
    return tuple(options)


def _origins(settings: Mapping[str, Setting], system: BatchSystem, job: JobRequest) -> str:
    """Return one line for each setting that has a value: the value and where it comes from."""
    found = {
        "scheduler": (system.name, "found on PATH"),
        "name": (job.name, "the program's name"),
        "ranks": (job.ranks, "nodes x ranks per node"),
        "walltime": ("the queue's own", "not given"),
    }
    rows = [
        ("directory", job.directory, "the working directory"),
        ("python", job.python, "this one"),
    ]
    for name, setting in settings.items():
        value, origin = setting.value, setting.origin
        if value is None and name in found:
            value, origin = found[name]
        if value not in (None, (), False):
            shown = " | ".join(value) if isinstance(value, tuple) else str(value)
            rows.append((name.replace("_", "-"), shown, origin))
    if system.name == "slurm":
        overriding = "the environment: sbatch takes it instead of the script's"
        rows += [(k, v, overriding) for k, v in os.environ.items() if k.startswith("SBATCH_")]
    return "\n".join(f"{name:16} {shown:32} {origin}" for name, shown, origin in rows)


def _refuse_inside_a_job(environment: Mapping[str, str]) -> None:
    for system in BATCH_SYSTEMS.values():
        job = environment.get(system.job_id)
        if job:
            raise LaunchError(
                f"candle submit was called inside of {system.title} job {job}; a job that it "
                "submits would inherit that job's variables. Here, use candle run; if that job has "
                f"ended, unset {system.job_id} or log in anew"
            )


def _pack(environment: Environment) -> None:
    is_new = pack(environment)
    state = "packed" if is_new else "unchanged since it was packed"
    remarks = "".join(f"\ncandle: {each}" for each in environment.remarks)
    print(
        f"candle: {environment.prefix} is {state}: {environment.archive} "
        f"({environment.archive.stat().st_size:,} bytes){remarks}",
        file=sys.stderr,
    )


def _submit(system: BatchSystem, job: JobRequest, folder: JobFolder, script: str) -> None:
    try:
        _make_room(folder)
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.script.write_text(script)
        facts = {
            "name": job.name,
            "scheduler": system.name,
            "id": None,
            "submitted_s": round(time.time(), 3),
            "directory": job.directory,
            "nodes": job.nodes,
            "ranks": job.ranks,
            "array": job.array,
            "command": list(job.program),
            "requeue_by": job.requeue_by,
        }
        # Before the job is there, which may begin at once.
        folder.write_facts(facts)
    except OSError as cause:
        if not folder.facts():
            with contextlib.suppress(OSError):
                folder.script.unlink(missing_ok=True)
                folder.path.rmdir()
        raise LaunchError(f"{folder.path} cannot be written: {cause}") from cause
    ids = _ids(system, job, folder)
    print(f"{system.title} job {' '.join(ids)}: {folder.path}", flush=True)
    are_jobs = job.array is not None and not system.has_arrays
    try:
        folder.write_facts({**facts, "id": ids[0]} | ({"ids": ids} if are_jobs else {}))
    except OSError as cause:
        raise LaunchError(
            f"the job was submitted, but its id cannot be written into {folder.path} ({cause}): "
            "candle status and candle cancel do not know it"
        ) from cause


def _ids(system: BatchSystem, job: JobRequest, folder: JobFolder) -> list[str]:
    try:
        if job.array is None or system.has_arrays:
            return [submit_job(system, folder)]
        return submit_elements(system, folder, job.array, job.array_limit or job.array)
    except LaunchError as refusal:
        raise LaunchError(f"{refusal}. The script is kept: {folder.script}") from refusal


def _state(folder: JobFolder, ask_every_s: float) -> State | None:
    """Return the state of a job, or of an element, that has not ended; None if all have."""
    states = [each.state for each in all_statuses(FoundJob(folder), ask_every_s)]
    return next((each for each in states if each.phase is not Phase.ENDED), None)


def _make_room(folder: JobFolder) -> None:
    """Set the folder of an earlier job of the same name aside, if that has ended."""
    facts = folder.facts()
    job = facts.get("id")
    if not job:
        return
    state = _state(folder, ask_every_s=0.0)
    if state is not None:
        raise LaunchError(
            f"{folder.path} belongs to {BATCH_SYSTEMS[facts['scheduler']].title} job {job}, which "
            f"is {state.name}. Give the new job another --name, or end that one: candle cancel "
            f"{folder.path.name}"
        )
    aside = folder.path.with_name(f"{folder.path.name}-{re.sub(r'[^A-Za-z0-9]+', '-', str(job))}")
    folder.path.replace(aside)


def wait(
    folder: JobFolder,
    array: int | None,
    poll_s: float = _POLL_S,
    late_polls: int = _LATE_POLLS,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Wait until a job has ended.

    Args:
        folder: the job's.
        array: number of elements, or None.
        poll_s: how often to ask the scheduler and to look.
        late_polls: how often to look for the last record of a job that has ended.
        sleep: waits for a number of seconds.

    Returns:
        The exit code of `candle run`, the largest of an array's; 1 where one has not recorded its
        end, as when the scheduler has killed it.
    """
    while _state(folder, ask_every_s=poll_s) is not None:
        sleep(poll_s)
    elements = [None] if array is None else list(range(array))
    codes = [_final_code(folder, each) for each in elements]
    for _ in range(late_polls):
        if None not in codes:
            break
        sleep(poll_s)
        codes = [_final_code(folder, each) for each in elements]
    if None in codes:
        print(
            f"candle: not all of the job has recorded its end; see {folder.path}", file=sys.stderr
        )
    return max(1 if code is None else code for code in codes)


def _final_code(folder: JobFolder, element: int | None) -> int | None:
    attempts = folder.attempts(element)
    return attempts[-1].code if attempts else None

"""`candle run`: run one Python program on N ranks."""

import argparse
import dataclasses
import os
import re
import secrets
import time
from collections.abc import Mapping
from pathlib import Path

from keras_candle import launcher_messages
from keras_candle.errors import EXIT_RUN_AGAIN, LaunchError
from keras_candle.launch.attempt_record import AttemptRecord
from keras_candle.launch.job_launcher import Job, JobLauncher, write_to_stderr
from keras_candle.launcher_messages import STARTED_S

ENGINES = ("auto", "horovod", "mpi")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `candle run`."""
    parser.usage = (
        "candle run -np N [--hosts a:4,b:4] [--engine {auto,horovod,mpi}] [--all-output] [--auto] "
        "[--max-restarts K] (script.py | -m package.module) [args...]"
    )
    parser.add_argument("-np", "-n", dest="size", type=int, metavar="N", help="number of ranks")
    parser.add_argument("--hosts", help="nodes and their ranks, for example a:4,b:4")
    parser.add_argument("--engine", choices=ENGINES, help="what carries the collectives")
    parser.add_argument(
        "--all-output",
        action="store_true",
        help="show the output of every rank instead of root's alone",
    )
    parser.add_argument(
        "--auto",
        action="store_true",
        help="train the Keras models of an unedited script on all ranks",
    )
    parser.add_argument(
        "--max-restarts",
        type=int,
        default=0,
        metavar="K",
        help="restart a failed job at most K times, as long as it makes progress; a training with "
        "CandleCallback resumes from its last checkpoint",
    )
    add_program(parser)


def add_program(parser: argparse.ArgumentParser, *, modules: bool = True) -> None:
    """Add the user's program and its arguments, which end the command line.

    Args:
        parser: of a command that runs programs.
        modules: whether it takes `-m package.module` too.
    """
    if modules:
        parser.add_argument(
            "-m",
            dest="module",
            nargs=argparse.REMAINDER,
            metavar="package.module",
            help="run a module instead of a script, as python -m does",
        )
    parser.add_argument(
        "script", nargs=argparse.REMAINDER, metavar="script.py", help="the program and its args"
    )


def run(options: argparse.Namespace) -> int:
    """Run the program on N ranks.

    Args:
        options: as `add_arguments` describes them.

    Returns:
        0 when every rank succeeded, else the exit code of the rank that failed first.

    Raises:
        LaunchError: the job cannot be started with these options.
    """
    if options.max_restarts < 0:
        raise LaunchError(f"--max-restarts got {options.max_restarts}, expected 0 or more")
    variables = auto_variables(os.environ) if options.auto and options.size != 1 else {}
    attempt = AttemptRecord()
    job = Job(
        size=size_of("candle run", options.size),
        program=program_of("candle run", options.module, options.script),
        hosts=_hosts(options.hosts, options.size),
        engine=options.engine,
        all_output=options.all_output,
        variables={**variables, **attempt.variables, STARTED_S: str(time.time())},
    )
    with attempt:
        if options.max_restarts:
            attempt.code = run_with_restarts(job, options.max_restarts, attempt.saved_steps)
        else:
            launcher = JobLauncher(job)
            attempt.code = launcher.run()
            attempt.saved_steps += launcher.saved_steps
    return attempt.code


def auto_variables(inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that switch on --auto in the ranks, see keras_candle.auto.

    Args:
        inherited: variables that are set already; their modules to prepare, and their seed, stay.
    """
    modules = [*inherited.get(launcher_messages.PREPARE, "").split(), "keras_candle.auto"]
    # Drawn once for the job: the ranks of an unseeded script must not draw different data.
    seed = inherited.get(launcher_messages.AUTO_SEED) or str(secrets.randbelow(2**31))
    return {
        launcher_messages.PREPARE: " ".join(dict.fromkeys(modules)),
        launcher_messages.AUTO_SEED: seed,
        launcher_messages.AUTO_STARTED_S: str(time.time()),
    }


def size_of(command: str, size: int | None) -> int:
    """Check the number of ranks and return it.

    Args:
        command: "candle run" or the like, for the message.
        size: the value of -np, None without it.

    Raises:
        LaunchError: the value is missing or less than one.
    """
    if size is None:
        raise LaunchError(f"{command} got no number of ranks. Pass it: {command} -np 2 script.py")
    if size < 1:
        raise LaunchError(f"-np got {size}, but a job has at least one rank. Try -np 1")
    return size


def program_of(command: str, module: list[str] | None, script: list[str]) -> tuple[str, ...]:
    """Check the program and return it with its arguments, as `Job` takes them.

    Args:
        command: "candle run" or the like, for the message.
        module: the words after -m, None without it.
        script: the words of the script otherwise.

    Raises:
        LaunchError: no program is given, or its file does not exist.
    """
    if module is not None:
        if not module:
            raise LaunchError(
                f"-m got no module. Name one: {command} -np 2 -m package.module args..."
            )
        return ("-m", *module)
    arguments = script[1:] if script[:1] == ["--"] else script
    if not arguments:
        raise LaunchError(f"{command} got no script. Name one: {command} -np 2 script.py args...")
    if not Path(arguments[0]).exists():
        raise LaunchError(
            f"There is no file {arguments[0]!r} in {Path.cwd()}. Expected a Python script; "
            "for a module pass -m package.module"
        )
    return tuple(arguments)


def _hosts(hosts: str | None, size: int) -> str | None:
    if hosts is None:
        return None
    slots = 0
    for entry in hosts.split(","):
        match = re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?::([1-9][0-9]*))?", entry)
        if match is None:
            raise LaunchError(
                f"--hosts got {hosts!r}; expected names and their ranks with commas between, "
                "for example a:4,b:4"
            )
        slots += int(match[2] or 1)
    if slots < size:
        raise LaunchError(
            f"--hosts {hosts} has room for {slots} ranks, but -np asks for {size}. "
            "Give the hosts more ranks (a:4 is four), or ask for fewer"
        )
    return hosts


def run_with_restarts(job: Job, most: int, saved_steps: list[int] | None = None) -> int:
    """Run a job and restart it when it fails, as long as it makes progress.

    Args:
        job: what to run.
        most: the largest number of restarts.
        saved_steps: gets the steps of the checkpoints that all runs have reported.

    Returns:
        The exit code of the last run. EXIT_RUN_AGAIN is not restarted: the scheduler's limit or
        signal is its cause.
    """
    number = 0
    while True:
        variables = {
            **job.variables,
            launcher_messages.NOTIFY_CHECKPOINTS: "1",
            launcher_messages.RESTARTS: str(number),
        }
        launcher = JobLauncher(dataclasses.replace(job, variables=variables))
        code = launcher.run()
        if saved_steps is not None:
            saved_steps += launcher.saved_steps
        if code in (0, EXIT_RUN_AGAIN) or launcher.stopped_by:
            return code
        reason = _stop_reason(launcher, number, most)
        if reason:
            _print(f"not started again: {reason}")
            return code
        number += 1
        _print(f"started again ({number} of at most {most}) {_resume_point(launcher)}")


def _stop_reason(launcher: JobLauncher, number: int, most: int) -> str:
    if number == most:
        return f"it was, {most} times (--max-restarts)" if most > 1 else "it was (--max-restarts)"
    # The first failure may have been a node that was about to fail anyway.
    if number and not launcher.saved_steps:
        return "it failed again before it had saved anything new"
    return ""


def _resume_point(launcher: JobLauncher) -> str:
    if launcher.saved_steps:
        return f"from the checkpoint of step {launcher.saved_steps[-1]}"
    return "as it was: no checkpoint was made (candle.CandleCallback makes them)"


def _print(sentence: str) -> None:
    write_to_stderr(f"candle: {sentence}\n".encode())

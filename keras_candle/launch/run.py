"""`candle run`: run one Python program on N ranks."""

import argparse
import os
import re
import secrets
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from keras_candle import launcher_messages
from keras_candle.errors import LaunchError
from keras_candle.launch.attempt_record import AttemptRecord
from keras_candle.launch.job_launcher import FORWARDED, Job, JobLauncher
from keras_candle.launch.restarts import Restarts
from keras_candle.launcher_messages import STARTED_S

ENGINES = ("auto", "horovod", "mpi")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `candle run`."""
    parser.usage = (
        "candle run -np N [--hosts a:4,b:4] [--engine {auto,horovod,mpi}] [--all-output] [--auto] "
        "[--max-restarts K [--restart-patience SECONDS]] (script.py | -m package.module) [args...]"
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
    parser.add_argument(
        "--restart-patience",
        type=float,
        default=600.0,
        metavar="SECONDS",
        help="how long a restart is tried again while a host cannot be reached (600)",
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
    # Until the launcher has its handlers, a signal would end this process without a word.
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    try:
        return _run(options)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)


def _run(options: argparse.Namespace) -> int:
    if options.max_restarts < 0:
        raise LaunchError(f"--max-restarts got {options.max_restarts}, expected 0 or more")
    if not options.restart_patience >= 0:  # nan too
        raise LaunchError(
            f"--restart-patience got {options.restart_patience:g}, expected 0 seconds or more"
        )
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
            restarts = Restarts(job, options.max_restarts, options.restart_patience)
            attempt.code = restarts.run(attempt.saved_steps)
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

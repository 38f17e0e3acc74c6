"""`candle verify` and `candle verify-resume`: start the ranks for the checks of `verification`."""

import argparse
import secrets
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from keras_candle.errors import LaunchError
from keras_candle.launch.job_launcher import Job, JobLauncher
from keras_candle.launch.run import ENGINES, add_program, auto_variables, program_of, size_of
from keras_candle.verification.attempt import TrainingCommand
from keras_candle.verification.equivalence import EquivalenceCheck, check_equivalence
from keras_candle.verification.resume_verdict import ResumeCheck

_KILLS = 3


def add_verify(parser: argparse.ArgumentParser) -> None:
    """Add the options of `candle verify`."""
    parser.usage = (
        "candle verify -np N [--auto] [--exact] [--engine {auto,horovod,mpi}] [--tolerance T] "
        "[--epochs K] [--timeout S] [--json FILE] (script.py | -m package.module) [args...]"
    )
    parser.add_argument("-np", "-n", dest="size", type=int, metavar="N", help="number of ranks")
    parser.add_argument(
        "--auto", action="store_true", help="scale the models of an unedited program"
    )
    parser.add_argument(
        "--exact",
        action="store_true",
        help="leave dropout and noise out of both runs, and synchronise batch normalisation",
    )
    parser.add_argument("--engine", choices=ENGINES, help="what carries the collectives")
    parser.add_argument(
        "--tolerance",
        type=float,
        metavar="T",
        help="the largest relative difference that counts as rounding (default 1e-5 in float32)",
    )
    parser.add_argument(
        "--epochs", type=int, metavar="K", help="the largest number of epochs in each fit"
    )
    parser.add_argument(
        "--timeout", type=float, metavar="S", help="seconds after which a run is stopped"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the whole comparison here")
    add_program(parser)


def verify(options: argparse.Namespace) -> int:
    """Run the program on 1 rank and on N ranks and print the comparison.

    Args:
        options: as `add_verify` describes them.

    Returns:
        See `check_equivalence`.

    Raises:
        LaunchError: the options are not valid.
    """
    training = _training("candle verify", options)
    if options.size == 1:
        raise LaunchError("-np got 1, but N ranks are compared with one. Try -np 2")
    _check(options, ("tolerance", "epochs", "timeout"))
    check = EquivalenceCheck(options.tolerance, options.epochs, options.exact, options.json)
    return check_equivalence(
        training, check, start_ranks, lambda line: _print_result("candle verify", line)
    )


def add_verify_resume(parser: argparse.ArgumentParser) -> None:
    """Add the options of `candle verify-resume`."""
    parser.usage = (
        "candle verify-resume [-np N] [--engine {auto,horovod,mpi}] [--auto] [--kills K] "
        "[--seed S] [--timeout S] [--json FILE] (script.py | -m package.module) [args...]"
    )
    parser.epilog = (
        "Exit code: 0 when every training ended as if it had not been killed, 1 when one did not, "
        "3 when two trainings without kills differ already, 2 for options that are not valid, and "
        "the program's own when it fails without being killed."
    )
    parser.add_argument(
        "-np", "-n", dest="size", type=int, default=1, metavar="N", help="number of ranks"
    )
    parser.add_argument("--engine", choices=ENGINES, help="what carries the collectives")
    parser.add_argument(
        "--auto", action="store_true", help="scale the models of an unedited program"
    )
    parser.add_argument(
        "--kills", type=int, default=_KILLS, metavar="K", help=f"number of kills (default {_KILLS})"
    )
    parser.add_argument(
        "--seed", type=int, metavar="S", help="seed of the kills; random by default"
    )
    parser.add_argument(
        "--timeout", type=float, metavar="S", help="seconds after which an attempt is stopped"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the whole result here")
    add_program(parser)


def verify_resume(options: argparse.Namespace) -> int:
    """Train without kills and with them, and print the verdict.

    Args:
        options: as `add_verify_resume` describes them.

    Returns:
        See the command's help.

    Raises:
        LaunchError: the options are not valid, or the program cannot be checked.
    """
    training = _training("candle verify-resume", options)
    _check(options, ("kills", "timeout"))
    check = ResumeCheck(
        training,
        start_ranks,
        lambda line: _print_result("candle verify-resume", line),
        options.kills,
        secrets.randbelow(10**6) if options.seed is None else options.seed,
    )
    return check.run(options.json)


def start_ranks(training: TrainingCommand, variables: Mapping[str, str]) -> tuple[int, bytes]:
    """Start the ranks of a training whose output is not shown; see `attempt.StartRanks`."""
    if training.auto:
        variables = {**variables, **auto_variables(variables)}
    job = Job(training.size, training.program, engine=training.engine, variables=variables)
    stderr: list[bytes] = []
    with tempfile.TemporaryFile() as printed:
        exit_code = JobLauncher(job, stderr.append).run(printed.fileno(), training.timeout_s)
    return exit_code, b"".join(stderr)


def _training(command: str, options: argparse.Namespace) -> TrainingCommand:
    size = size_of(command, options.size)
    program = program_of(command, options.module, options.script)
    return TrainingCommand(program, size, options.engine, options.auto, options.timeout)


def _check(options: argparse.Namespace, above_0: tuple[str, ...]) -> None:
    for name in above_0:
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise LaunchError(f"--{name} got {value:g}, expected a number above 0")
    if options.json is not None and not options.json.absolute().parent.is_dir():
        raise LaunchError(
            f"--json got {options.json}, but its folder does not exist. Create it first"
        )


def _print_result(command: str, line: str) -> None:
    print(f"{command}: {line}", file=sys.stderr, flush=True)

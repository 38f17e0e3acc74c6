"""`candle verify-resume`: kill a training at random moments and compare it with itself unkilled."""

import argparse
import json
import random
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from keras_candle.errors import LaunchError
from keras_candle.launch import resume_report
from keras_candle.launch.kill_plan import Course, course_of, draw_round
from keras_candle.launch.kill_rounds import KillRound, run_round
from keras_candle.launch.local import write_to_stderr
from keras_candle.launch.run import ENGINES, add_program, program_of, size_of
from keras_candle.launch.trial import AttemptOutcome, ResumeTrial, TrainingCommand
from keras_candle.run_directory import RunDirectory

_KILLS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
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


def run(options: argparse.Namespace) -> int:
    """Train without kills and with them, and print the verdict.

    Args:
        options: as `add_arguments` describes them.

    Returns:
        See the command's help.

    Raises:
        LaunchError: the options are not valid, or the program cannot be checked.
    """
    size = size_of("candle verify-resume", options.size)
    program = program_of("candle verify-resume", options.module, options.script)
    _check(options)
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    training = TrainingCommand(program, size, options.engine, options.auto, options.timeout)
    with tempfile.TemporaryDirectory(prefix="candle-verify-resume-") as folder:
        place = Path(folder).resolve()
        _print_result(f"without kills on {size} rank{'s' if size > 1 else ''}: {' '.join(program)}")
        whole = ResumeTrial(training, place / "whole").start()
        if whole.exit_code:
            return _failed(whole)
        course = _course(whole, program)
        rounds = _rounds(training, place, course, options.kills, random.Random(seed))  # noqa: S311
        again = _compare_all(training, place, whole, rounds)
        directories = list(whole.events.directories)
    steps = len(course.moments)
    result = resume_report.Result(training, steps, directories, rounds, again, seed)
    for each in rounds:
        if each.failure:
            write_to_stderr(each.last.stderr)
    if options.json is not None:
        options.json.write_text(resume_report.as_json(result))
    print(resume_report.text(result), flush=True)
    return resume_report.EXIT_CODES[result.verdict]


def _check(options: argparse.Namespace) -> None:
    for name in ("kills", "timeout"):
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise LaunchError(f"--{name} got {value:g}, expected a number above 0")
    if options.json is not None and not options.json.absolute().parent.is_dir():
        raise LaunchError(
            f"--json got {options.json}, but its folder does not exist. Create it first"
        )


def _failed(ended: AttemptOutcome) -> int:
    write_to_stderr(ended.stderr)
    _print_result("it failed without being killed, so there is nothing to compare with")
    return ended.exit_code


def _course(whole: AttemptOutcome, program: tuple[str, ...]) -> Course:
    directories = whole.events.directories
    if not directories:
        raise LaunchError(
            f"{' '.join(program)} calls no fit with a CandleCallback, so it would start anew after "
            "each kill. Give fit a candle.CandleCallback(run_directory) among its callbacks"
        )
    events = {name: RunDirectory(path).events() for name, path in directories.items()}
    course = course_of(whole.events, events)
    if len(course.moments) < 2:
        raise LaunchError(
            f"{' '.join(program)} took {len(course.moments)} step in its fits with a "
            "CandleCallback, too few to be killed between. Train for more steps"
        )
    return course


def _rounds(
    training: TrainingCommand, place: Path, course: Course, kills: int, draws: random.Random
) -> list[KillRound]:
    """Train until so many kills took place. Kills that come too late are drawn again."""
    rounds: list[KillRound] = []
    left = kills
    while left > 0 and len(rounds) < 2 * kills:
        planned = draw_round(course, left, training.size, draws)
        rounds.append(
            run_round(training, place / f"round-{len(rounds) + 1}", course, planned, _print_result)
        )
        left -= len(rounds[-1].killed)
        if rounds[-1].failure:
            break
    return rounds


def _compare_all(
    training: TrainingCommand, place: Path, whole: AttemptOutcome, rounds: list[KillRound]
) -> dict[str, Any] | None:
    """Compare the final states; after a difference, compare a second run without kills too."""
    for each in rounds:
        if not each.failure:
            each.compared = _compare(whole, each.last)
        else:
            each.compared = {"differences": [], "causes": [], "fits": 0}
    if not any(each.failure or each.compared["differences"] for each in rounds):
        return None
    _print_result("the final states differ: training once more without kills")
    again = ResumeTrial(training, place / "again").start()
    if again.exit_code:
        write_to_stderr(again.stderr)
        raise LaunchError(
            f"without kills the program ended with code {again.exit_code} the second time, and "
            "with 0 the first. Run it twice by itself, each time in an empty run directory"
        )
    return _compare(whole, again)


def _compare(first: AttemptOutcome, second: AttemptOutcome) -> dict[str, Any]:
    """Compare in a subprocess: this process imports no NumPy."""
    command = [
        sys.executable,
        "-m",
        "keras_candle.verification.compare_resumes",
        str(first.folder),
        str(second.folder),
    ]
    done = subprocess.run(command, check=False, capture_output=True)
    if done.returncode:
        write_to_stderr(done.stderr)
        raise LaunchError("the final states cannot be compared, see above")
    compared: dict[str, Any] = json.loads(done.stdout)
    return compared


def _print_result(line: str) -> None:
    print(f"candle verify-resume: {line}", file=sys.stderr, flush=True)

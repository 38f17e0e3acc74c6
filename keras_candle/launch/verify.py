"""`candle verify`: compare a program on 1 rank and on N ranks with the same global batches."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from keras_candle.errors import LaunchError
from keras_candle.launch import environment
from keras_candle.launch.local import Job, JobLauncher, write_to_stderr
from keras_candle.launch.run import ENGINES, add_program, auto_variables, program_of, size_of

# The package whose prepare() the ranks call before the program begins, and which compares.
RECORDING = "keras_candle.verification"
# For programs that set no seed of their own.
SEED = 1
# On N ranks these override the arguments of @candle.scalable: batches and learning rate are those
# of one rank.
ONE_RANKS_BATCHES = {"batch": "global", "learning_rate_scaling": None, "warmup_epochs": 0}


def add_arguments(parser: argparse.ArgumentParser) -> None:
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


def run(options: argparse.Namespace) -> int:
    """Run the program twice and print the comparison.

    Args:
        options: as `add_arguments` describes them.

    Returns:
        0 when N ranks train as one does or the reason for the difference is known, 1 when they
        do not, and the program's own exit code when it failed.

    Raises:
        LaunchError: the options are not valid.
    """
    size = size_of("candle verify", options.size)
    program = program_of("candle verify", options.module, options.script)
    _check(options)
    with tempfile.TemporaryDirectory(prefix="candle-verify-") as place:
        folders = [Path(place) / "one", Path(place) / "many"]
        for ranks, folder in zip((1, size), folders, strict=True):
            folder.mkdir()
            job = Job(ranks, program, engine=options.engine, variables=_variables(options, folder))
            exit_code = _train(job, options.timeout)
            if exit_code:
                return exit_code
        print(f"{' '.join(program)}: {_terms(options)}\n", flush=True)
        return _compare(folders, options)


def _check(options: argparse.Namespace) -> None:
    if options.size == 1:
        raise LaunchError("-np got 1, but N ranks are compared with one. Try -np 2")
    for name in ("tolerance", "epochs", "timeout"):
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise LaunchError(f"--{name} got {value:g}, expected a number above 0")
    if options.json is not None and not options.json.absolute().parent.is_dir():
        raise LaunchError(
            f"--json got {options.json}, but its folder does not exist. Create it first"
        )


def _variables(options: argparse.Namespace, folder: Path) -> dict[str, str]:
    """Return the environment variables of both jobs."""
    scalable = {**ONE_RANKS_BATCHES, **({"sync_batch_norm": True} if options.exact else {})}
    settings = {
        "folder": str(folder),
        "seed": SEED,
        "epochs": options.epochs,
        "exact": options.exact,
    }
    prepare = {environment.PREPARE: RECORDING, environment.AUTO_SEED: str(SEED)}
    return {
        **(auto_variables(prepare) if options.auto else prepare),
        environment.VERIFY: json.dumps(settings),
        environment.OPTIONS: json.dumps(scalable),
        "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2"),
    }


def _train(job: Job, timeout_s: float | None) -> int:
    ranks = "1 rank" if job.size == 1 else f"{job.size} ranks"
    _print_result(f"{ranks}: {' '.join(job.program)}")
    stderr: list[bytes] = []
    with tempfile.TemporaryFile() as printed:
        exit_code = JobLauncher(job, stderr.append).run(printed.fileno(), timeout_s)
    if exit_code:
        # Only on failure: the program's output would get between the lines of the report, twice.
        write_to_stderr(b"".join(stderr))
        _print_result(f"it failed on {ranks}, so there is nothing to compare")
    return exit_code


def _print_result(line: str) -> None:
    print(f"candle verify: {line}", file=sys.stderr, flush=True)


def _terms(options: argparse.Namespace) -> str:
    """Describe what both runs have in common, for the head of the report."""
    terms = [
        f"1 rank and {options.size} ranks, the same global batches and learning rate",
        f"seed {SEED} for what the program does not seed itself",
    ]
    if options.epochs is not None:
        terms.append(f"at most {options.epochs} epochs a fit")
    if options.exact:
        terms.append("without dropout and noise, batch normalisation synchronised")
    return "; ".join(terms)


def _compare(folders: list[Path], options: argparse.Namespace) -> int:
    """Compare in a subprocess: this process imports no NumPy."""
    command = [sys.executable, "-m", RECORDING, *map(str, folders), "--size", str(options.size)]
    if options.tolerance is not None:
        command += ["--tolerance", str(options.tolerance)]
    if options.json is not None:
        command += ["--json", str(options.json)]
    return subprocess.run(command, check=False).returncode

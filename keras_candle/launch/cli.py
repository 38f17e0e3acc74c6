"""The `candle` command line; each subcommand's module is imported only when it is used."""

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Callable, Sequence

from keras_candle.errors import LaunchError

# name -> (module with add_arguments(parser) and run(options), help text), or
# name -> (module.command with add_command(parser) and command(options) in the module, help text)
COMMANDS = {
    "run": ("run", "run a Python program on N ranks"),
    "submit": ("submit", "submit a Python program to the cluster's scheduler"),
    "status": ("status", "show what has become of submitted jobs"),
    "logs": ("logs", "show the output of a submitted job"),
    "cancel": ("cancel", "end a submitted job after it has saved"),
    "check": ("check", "find what will go wrong when a script runs on N ranks"),
    "audit-precision": (
        "audit_precision",
        "find the layers that 16-bit precision breaks, and measure its speed-up",
    ),
    "checkpoints": (
        "run_directories.checkpoints",
        "list, verify or roll back the checkpoints of a run",
    ),
    "report": ("run_directories.report", "write an HTML page about runs and searches"),
    "build-horovod": ("horovod_build", "build Horovod for the installed TensorFlow"),
    "doctor": ("doctor", "show installed packages, test each engine on 2 ranks, and suggest fixes"),
    "demo": ("demo", "train on real data on 1 and 2 ranks and compare"),
    "verify": ("verify.verify", "run a program on 1 rank and on N and compare what they trained"),
    "verify-resume": (
        "verify.verify_resume",
        "kill a training at random moments and verify that it resumes exactly",
    ),
}
BAD_USAGE = 2
READER_GONE = 128 + signal.SIGPIPE
"""The exit code when the reader of the output has ended, as in `candle check train.py | head`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script `candle`.

    Args:
        arguments: the command line without the program's name; sys.argv's by default.

    Returns:
        The exit code: 2 when the command cannot be started as given, 141 when the reader of its
        output has ended.
    """
    try:
        try:
            return _run(arguments)
        finally:
            _flush()
    except BrokenPipeError:
        _discard_output()
        return READER_GONE


def _flush() -> None:
    """Write buffered output: at the interpreter's exit a missing reader is a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()


def _discard_output() -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(null, descriptor)
    os.close(null)


def _run(arguments: Sequence[str] | None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = next((word for word in given if not word.startswith("-")), None)
    parser = _parser(command)
    options = parser.parse_args(given)
    if options.version:
        print(f"candle {_version()}")
        return 0
    if options.command is None:
        parser.print_help(sys.stderr)
        return BAD_USAGE
    try:
        _check_directory()
        exit_code: int = _functions(options.command)[1](options)
    except LaunchError as error:
        print(f"candle: {error}", file=sys.stderr)
        return BAD_USAGE
    except KeyboardInterrupt:
        print("candle: stopped by SIGINT", file=sys.stderr)
        return 130
    return exit_code


def _check_directory() -> None:
    try:
        os.getcwd()
    except FileNotFoundError:
        raise LaunchError(
            f"the working directory ({os.environ.get('PWD', 'unknown')}) was removed. Change to "
            "one that exists"
        ) from None


def _parser(command: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="candle",
        description="Data-parallel Keras 3 training: from the shell to the ranks.",
        epilog="candle COMMAND --help shows the options of a command.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, (_, what) in COMMANDS.items():
        one = commands.add_parser(name, help=what, description=what, allow_abbrev=False)
        if name == command:
            _functions(name)[0](one)
    return parser


def _functions(command: str) -> tuple[Callable[..., None], Callable[..., int]]:
    """Return the functions that add a command's options and run it."""
    module_name, _, name = COMMANDS[command][0].partition(".")
    module = importlib.import_module(f"keras_candle.launch.{module_name}")
    return getattr(module, f"add_{name or 'arguments'}"), getattr(module, name or "run")


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("keras-candle")
    except PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())

"""A cmake wrapper for Horovod's build: fix two lines of its source, then call the real cmake.

Horovod's setup.py lets the variable HOROVOD_CMAKE name its cmake. The wrapper sees the source
after pip has unpacked it and before anything is compiled: no patched copy has to be kept.
This file is also run by path, so it imports only the standard library.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

REAL_CMAKE = "KERAS_CANDLE_REAL_CMAKE"

# file, pattern, replacement, why
EDITS = (
    (
        "horovod/tensorflow/CMakeLists.txt",
        r"(?m)^.*xla_mpi_ops\.cc.*\n",
        "",
        # It includes a header that TensorFlow dropped in 2.19. All its code is for GPUs under
        # XLA, and on CPU it is the file that takes most memory to compile for nothing.
        "left out xla_mpi_ops.cc",
    ),
    (
        "horovod/common/gloo/gloo_controller.cc",
        r"global_ranks_\.reserve\(",
        "global_ranks_.resize(",
        # reserve leaves the vector empty: the ranks written into it lie past its end, and the
        # stall check, which asks the vector for its size, never finds a stalled rank.
        "the stall check sees all ranks",
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script `candle-cmake`.

    Args:
        arguments: cmake's arguments; sys.argv's by default.

    Returns:
        The real cmake's exit code; 127 when there is no real cmake.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    real = os.environ.get(REAL_CMAKE) or shutil.which("cmake")
    if real is None:
        print(
            "candle-cmake: no cmake on PATH. Install it: pip install 'keras-candle[horovod]'",
            file=sys.stderr,
        )
        return 127
    source = horovod_source(given)
    if source is not None:
        for edited in edit(source):
            print(f"candle: {edited}", flush=True)
    return subprocess.call([real, *build_arguments(given)])


def horovod_source(arguments: Sequence[str]) -> Path | None:
    """Return Horovod's source tree if this call configures its build, otherwise None."""
    for argument in arguments:
        if not argument.startswith("-") and (Path(argument) / EDITS[0][0]).is_file():
            return Path(argument)
    return None


def edit(source: Path) -> list[str]:
    """Make the edits that the source tree still needs.

    Args:
        source: Horovod's source tree, edited in place.

    Returns:
        A line for each edit; empty when none was needed.
    """
    done = []
    for name, pattern, replacement, why in EDITS:
        path = source / name
        if not path.is_file():
            continue
        text = path.read_text()
        edited = re.sub(pattern, replacement, text)
        if edited != text:
            path.write_text(edited)
            done.append(f"{name}: {why}")
    return done


def build_arguments(arguments: Sequence[str]) -> list[str]:
    """Return the arguments for the real cmake.

    Args:
        arguments: as Horovod's setup.py gives them.

    Returns:
        A build call restricted to the library for TensorFlow, which leaves out a second copy of
        Gloo, and without verbose output; every other call unchanged.

    Example:
        >>> build_arguments(["--build", ".", "--", "VERBOSE=1"])
        ['--build', '.', '--target', 'tensorflow', '--']
        >>> build_arguments(["--version"])
        ['--version']
    """
    if list(arguments[:1]) != ["--build"]:
        return list(arguments)
    kept = [argument for argument in arguments if argument != "VERBOSE=1"]
    end = kept.index("--") if "--" in kept else len(kept)
    return [*kept[:end], "--target", "tensorflow", *kept[end:]]


if __name__ == "__main__":
    sys.exit(main())

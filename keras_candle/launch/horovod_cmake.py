"""The cmake that Horovod's build calls: it puts right two lines, then hands over to the real one.

Horovod's setup.py lets the variable HOROVOD_CMAKE name its cmake. That is a door to its source
tree after pip has unpacked it and before anything is compiled: no copy of the source to keep.
This file is run by path, too, so it imports nothing but the standard library.
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
    """Horovod's source tree when this is the call that configures its build, otherwise None."""
    for argument in arguments:
        if not argument.startswith("-") and (Path(argument) / EDITS[0][0]).is_file():
            return Path(argument)
    return None


def edit(source: Path) -> list[str]:
    """Makes the edits that the tree still needs.

    Args:
        source: Horovod's source tree, which is changed.

    Returns:
        What was changed; nothing when all was right already.
    """
    done = []
    for name, pattern, replacement, why in EDITS:
        path = source / name
        if not path.is_file():
            continue
        text = path.read_text()
        right = re.sub(pattern, replacement, text)
        if right != text:
            path.write_text(right)
            done.append(f"{name}: {why}")
    return done


def build_arguments(arguments: Sequence[str]) -> list[str]:
    """The arguments for the real cmake.

    Args:
        arguments: as Horovod's setup.py gives them.

    Returns:
        A build call restricted to the library for TensorFlow, which leaves out a second copy of
        Gloo, and without a screenful for each file; every other call as it is.

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

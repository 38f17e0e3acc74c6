"""The Python environment of a job on its nodes' own disks, for `candle submit --stage-environment`.

A rank that imports TensorFlow opens 4,000 files and asks for 24,000 names. The environment is
packed once, into one file; each node reads that file and unpacks it before the ranks start. Paths
in scripts are changed to the new place; Python's own library stays where it is.

python -m keras_candle.cluster.environment ARCHIVE PREFIX TARGET: unpack, on a node.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import xxhash

from keras_candle.cluster import node_copy
from keras_candle.cluster.job_script import NOT_BEGUN
from keras_candle.errors import EXIT_RUN_AGAIN, DataError, LaunchError
from keras_candle.launcher_messages import JOB

# Starts a command once on each of the job's {nodes} nodes. Only Slurm's was run on a real one.
ONCE_PER_NODE = {
    "slurm": "srun --mpi=none --nodes={nodes} --ntasks={nodes} --ntasks-per-node=1",
    "pbs": "mpiexec -n {nodes} -ppn 1",
    "lsf": 'blaunch -z "$(sort -u "$LSB_DJOB_HOSTFILE" | tr "\\n" " ")"',
    "flux": "flux run --nodes={nodes} --ntasks={nodes}",
}
# Below the folder of jobs; no job has this name.
FOLDER = "_environments"
_RECORD = ".candle-environment.json"
# Linux reads no more of a script's first line.
_SHEBANG_BYTES = 255
# What a killed job has left is removed after that, unless a process runs there.
_LEFT_FOR_S = 3600.0


class Environment(NamedTuple):
    """An environment that can be packed.

    Attributes:
        archive: the tar file, which need not exist yet; its name has a hash of `prefix`'s files.
        prefix: the folder that it is made of.
        size: of all files in bytes.
        files: number of files and folders.
        remarks: what stays on the shared file system, in sentences.
    """

    archive: Path
    prefix: Path
    size: int
    files: int
    remarks: tuple[str, ...]


def find(prefix: Path, folder: Path) -> Environment:
    """Return the tar file that an environment gets, and what stays outside of it.

    Args:
        prefix: the environment, as in sys.prefix.
        folder: where packed environments are kept.

    Raises:
        LaunchError: the environment cannot be moved to another place, or cannot be read.
    """
    remarks = _check_relocatable(prefix)
    try:
        key, size, files = _state(prefix)
    except OSError as cause:
        raise LaunchError(f"cannot read the environment {prefix}: {cause}") from cause
    return Environment(folder / f"environment-{key}.tar", prefix, size, files, remarks)


def pack(environment: Environment) -> bool:
    """Pack an environment into its tar file; return whether that was not there already.

    Raises:
        LaunchError: it cannot be packed, or changes meanwhile.
    """
    archive, prefix = environment.archive, environment.prefix
    folder = archive.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with node_copy.locked(folder / f".{archive.name}.lock"):
            if archive.exists():
                return False
            # A tar file has a header and on average half a block more for each file.
            node_copy.check_space(folder, environment.size + 768 * environment.files, 1)
            partial = folder / f".{archive.name}.partial-{secrets.token_hex(4)}"
            try:
                _tar("-cf", partial, "-C", prefix, ".")
                if find(prefix, folder).archive != archive:
                    raise LaunchError(f"{prefix} changed while it was packed; submit again")
                os.rename(partial, archive)
            finally:
                node_copy.remove(partial)
    except OSError as cause:
        raise LaunchError(
            f"cannot pack the environment {prefix} ({environment.size:,} bytes) into {folder}: "
            f"{cause.strerror or cause}"
        ) from cause
    return True


def staging_lines(environment: Environment, scheduler: str, nodes: int) -> tuple[str, ...]:
    """Return the lines of a job script that unpack an environment on each node.

    They expect the interpreter in `$python`, and change it to the unpacked one. The function
    `unstage` removes the copies and restores `$python`; it is called when the script exits, too.
    A stop signal meanwhile ends the job as one that is to be run again: it has begun nothing.

    Args:
        environment: packed before the job starts.
        scheduler: of `ONCE_PER_NODE`.
        nodes: number of nodes.
    """
    launch = f"{ONCE_PER_NODE[scheduler].format(nodes=nodes)} " if nodes > 1 else ""
    archive, prefix = (shlex.quote(os.path.abspath(each)) for each in environment[:2])
    local = "/tmp"  # noqa: S108 - as Python has it
    for name in reversed((*node_copy.LOCAL_FOLDERS, "TMPDIR")):
        local = f"${{{name}:-{local}}}"
    return (
        "shared_python=$python",
        f"environment={local}/keras_candle-$(id -u)/environment-$(uname -n)-$$",
        "unstage() {",
        "    trap - EXIT",
        "    python=$shared_python",
        f'    {launch}rm -rf -- "$environment" 2>/dev/null || true',
        # Of a job that was cancelled no command starts on the remaining nodes.
        *(['    rm -rf -- "$environment" || true'] if launch else []),
        "}",
        "trap unstage EXIT",
        "stopped= failed=",
        "trap stopped=1 TERM INT USR1 USR2",
        f'{launch}"$python" -m keras_candle.cluster.environment {archive} {prefix} "$environment" '
        "|| failed=1",
        'if [ -n "$stopped" ]; then',
        "    unstage",
        f'    "$python" -m keras_candle.cluster.requeue "${JOB}" {EXIT_RUN_AGAIN} {NOT_BEGUN}',
        "    exit",
        "fi",
        '[ -z "$failed" ] || exit 1',
        "python=$environment/bin/python",
        "export PATH=$environment/bin:$PATH VIRTUAL_ENV=$environment",
    )


def unpack(archive: Path, prefix: Path, target: Path) -> None:
    """Unpack an environment on this node, unless that is done already.

    Args:
        archive: as packed.
        prefix: the folder that it was made of.
        target: the folder to make, in this user's folder for copies on the node.

    Raises:
        LaunchError: it cannot be unpacked there; names the host, the path and the bytes.
    """
    size = 0
    partial = target.with_name(f"{target.name}.partial-{secrets.token_hex(4)}")
    try:
        folder = node_copy.local_folder(target.parent.parent, os.environ)
        if target.parent != folder:
            raise LaunchError(f"the target is {target}, expected a folder in {folder}")
        with node_copy.locked(folder / f"{target.name}.lock"):
            if (target / _RECORD).exists():
                return
            _remove_left(folder)
            size = archive.stat().st_size
            node_copy.check_space(folder, size, 1)
            if os.statvfs(folder).f_flag & os.ST_NOEXEC:
                raise LaunchError("programs cannot run there (it is mounted with noexec)")
            partial.mkdir(mode=0o700)
            _tar("-xof", archive, "-C", partial)
            relocate(partial, prefix, target)
            (partial / _RECORD).write_text(json.dumps({"archive": os.fspath(archive)}))
            os.rename(partial, target)
        _check_starts(target)
    except (OSError, LaunchError, DataError) as cause:
        node_copy.remove(target)
        raise LaunchError(
            f"host {node_copy.host()}: cannot unpack {archive} ({size:,} bytes) to {target}: "
            f"{getattr(cause, 'strerror', None) or cause}"
        ) from cause
    finally:
        node_copy.remove(partial)


def relocate(folder: Path, prefix: Path, target: Path) -> None:
    """Change an environment's own paths to those of its new place.

    Scripts in bin, lines of .pth files and links are changed. `home` in pyvenv.cfg and paths to
    places outside of the environment, such as the sources of editable installs, stay.

    Args:
        folder: the copy.
        prefix: the folder that it was copied from.
        target: the place that the copy will have.

    Raises:
        LaunchError: the new path is too long for a script's first line.
    """
    new = os.fsencode(target)
    # Longest first: one may begin with the other.
    spellings = sorted({os.fsencode(prefix), os.fsencode(os.path.realpath(prefix))}, key=len)[::-1]
    # A path ends where none of a name's characters follows.
    pattern = re.compile(b"(?:" + b"|".join(map(re.escape, spellings)) + rb")(?![\w.-])")
    scripts = [path for path in (folder / "bin").iterdir() if path.is_file()]
    for path in (*scripts, *folder.glob("lib/python*/site-packages/*.pth")):
        if path.is_symlink():
            continue
        text = path.read_bytes()
        changed = pattern.sub(lambda _: new, text)
        if b"\0" in text or changed == text:
            continue
        if text[:2] == b"#!" and len(changed.split(b"\n", 1)[0]) > _SHEBANG_BYTES:
            raise LaunchError(f"the first line of {path.name} would be too long for Linux")
        mode = stat.S_IMODE(path.stat().st_mode)
        path.write_bytes(changed)
        path.chmod(mode)
    for path in (*folder.iterdir(), *(folder / "bin").iterdir()):
        if path.is_symlink():
            points_to = os.fsencode(os.readlink(path))
            changed = pattern.sub(lambda _: new, points_to)
            if changed != points_to:
                path.unlink()
                path.symlink_to(os.fsdecode(changed))


def _check_relocatable(prefix: Path) -> tuple[str, ...]:
    """Return what of an environment stays at its place; raise where it cannot be moved."""
    if (prefix / "conda-meta").is_dir():
        raise LaunchError(
            f"{prefix} is a conda environment, whose libraries hold its path; pack it with "
            "conda-pack, unpack it in lines of --environment, and leave out --stage-environment"
        )
    try:
        settings = (prefix / "pyvenv.cfg").read_text()
    except OSError as cause:
        raise LaunchError(
            f"{prefix} is not a virtual environment (no pyvenv.cfg can be read): it cannot be "
            "moved. Make one with python -m venv, or leave out --stage-environment"
        ) from cause
    remarks = []
    if re.search(r"(?m)^include-system-site-packages\s*=\s*true", settings):
        remarks.append("packages of the system's Python are not in the environment and stay there")
    inside = (prefix, prefix.resolve())
    for path in sorted(prefix.glob("lib/python*/site-packages/*.pth")):
        for line in path.read_text(errors="replace").splitlines():
            if line.startswith("/") and not any(Path(line).is_relative_to(p) for p in inside):
                remarks.append(
                    f"{line} ({path.name}) is outside of the environment and stays there"
                )
    for path in sorted(prefix.glob("lib/python*/site-packages/__editable__*finder.py")):
        remarks.append(f"the sources that {path.name} names stay where they are")
    return tuple(remarks)


def _state(prefix: Path) -> tuple[str, int, int]:
    """Return a hash of names, sizes and times, all bytes, and the number of files.

    Compiled files do not count: Python writes them on the first import.
    """
    hashed = xxhash.xxh3_64(os.fsencode(os.path.realpath(prefix)))
    size = count = 0
    for place, folders, names in os.walk(prefix):
        folders.sort()
        compiled = os.path.basename(place) == "__pycache__"
        for name in sorted(names):
            path = os.path.join(place, name)
            found = os.lstat(path)
            size, count = size + found.st_size, count + 1
            if not compiled:
                mark = (os.path.relpath(path, prefix), found.st_size, found.st_mtime_ns)
                hashed.update(os.fsencode(repr(mark)))
        count += len(folders)
    return hashed.hexdigest(), size, count


def _tar(*arguments: str | Path) -> None:
    try:
        done = subprocess.run(
            ["tar", *arguments], stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    except FileNotFoundError as cause:
        raise LaunchError("there is no tar on PATH") from cause
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip().splitlines()
        raise LaunchError(words[0] if words else f"tar gave code {done.returncode}")


def _check_starts(target: Path) -> None:
    program = "import sys; sys.stdout.write(sys.prefix)"
    done = subprocess.run(
        [target / "bin" / "python", "-I", "-c", program],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode or os.path.realpath(os.fsdecode(done.stdout)) != os.path.realpath(target):
        words = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        raise LaunchError(f"its Python does not start there: {words[-1] if words else ''}")


def _remove_left(folder: Path) -> None:
    """Remove environments of jobs that were killed."""
    node_copy.remove_left(folder)
    running = _command_lines()
    # Data that was copied there has another record.
    for record in folder.glob(f"environment-*/{_RECORD}"):
        path = record.parent
        try:
            age_s = time.time() - path.stat().st_ctime  # tar sets the other times
        except OSError:
            continue
        if age_s > _LEFT_FOR_S and os.fsencode(path.name) not in running:
            node_copy.remove_whole(path)


def _command_lines() -> bytes:
    lines = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(each.read_bytes())
        except OSError:
            continue
    return b"\n".join(lines)


def main(arguments: list[str]) -> int:
    """Unpack on this node; print how long that took, or the problem."""
    archive, prefix, target = map(Path, arguments)
    begun_s = time.monotonic()
    try:
        unpack(archive, prefix, target)
    except LaunchError as error:
        sys.stderr.write(f"candle: {error}\n")
        return 1
    sys.stderr.write(
        f"candle: environment on {node_copy.host()} after {time.monotonic() - begun_s:.1f} s\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

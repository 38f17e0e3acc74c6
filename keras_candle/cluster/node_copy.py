"""Copies of files and folders on a node's own disk: whole or absent, shared by the node's jobs.

A copy is a folder `NAME-KEY` that holds the file or folder under its own name, and a record. The
key is a hash of where the source is and of its files' names, sizes and times, so that a changed
source gets another copy. A copy appears by a rename; what a killed process has left is removed by
the next one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import shutil
import socket
import stat
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from glob import escape
from pathlib import Path
from typing import Any, NamedTuple

import xxhash

from keras_candle.cluster.schedulers import SLURM
from keras_candle.errors import DataError

# Folders of a job on a node's own disk, by the variables that name them; then Python's TMPDIR,
# TEMP, TMP, /tmp. Slurm sets none itself, many sites do; PBS sets TMPDIR.
LOCAL_FOLDERS = ("SLURM_TMPDIR", "FLUX_JOB_TMPDIR")
_RECORD, _PARTIAL, _LOCK = ".copy.json", ".partial-", ".lock"
_CHUNK_BYTES = 4 << 20
# Parallel file systems answer slowly, and several requests at once.
_THREADS = 8
_TOUCH_EVERY_S, _POLL_S = 1.0, 0.1
# Of a source's name in its copy's: the whole must not be longer than a file's name can be.
_NAME_BYTES = 100
# Open for as long as this process lives: its copies are in use.
_in_use: dict[Path, int] = {}


class Source(NamedTuple):
    """The files of a file or folder: links are followed, empty folders are kept.

    Attributes:
        key: hash of the place and of `state`.
        state: hash of all names, sizes and times.
        files: size by path below the source; the path is "" where it is itself a file.
        folders: paths below the source, parents first.
        size: of all files in bytes.
    """

    key: str
    state: str
    files: dict[str, int]
    folders: list[str]
    size: int


class NodeCopy(NamedTuple):
    """A complete copy on this node.

    Attributes:
        path: of the file or folder.
        content: hash of all names and contents.
        size: in bytes.
        files: their number.
        is_new: whether it was copied just now.
    """

    path: Path
    content: str
    size: int
    files: int
    is_new: bool


def host() -> str:
    """Return this node's name."""
    return os.environ.get(SLURM.node_name) or socket.gethostname()


def local_folder(directory: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> Path:
    """Return this user's folder for copies on this node, made if it does not exist.

    Args:
        directory: where it shall be; None for the first of `LOCAL_FOLDERS` that is set, else
            Python's folder for temporary files.
        environ: the variables to read.

    Raises:
        DataError: it cannot be made, or belongs to another user.
    """
    named = next((environ[name] for name in LOCAL_FOLDERS if environ.get(name)), None)
    parent = Path(os.path.abspath(directory or named or tempfile.gettempdir()))
    folder = parent / f"keras_candle-{os.getuid()}"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        # Nobody else may read it, or have put something there.
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        found = folder.lstat()
    except OSError as cause:
        raise DataError(
            f"host {host()}: cannot make {folder} for node-local copies: {cause.strerror}. Pass "
            "directory= with a folder on the node's own disk"
        ) from cause
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise DataError(
            f"host {host()}: {folder} is not a folder of this user; pass directory= with a folder "
            "that nobody else can write"
        )
    return folder


def read_source(source: Path) -> Source:
    """List the files of a file or folder.

    Raises:
        DataError: it is missing, unreadable, or holds a pipe, a socket or a broken link.
    """
    files: dict[str, int] = {}
    folders: list[str] = []
    marks: list[bytes] = []

    def visit(path: Path, relative: str, parents: tuple[tuple[int, int], ...]) -> None:
        found = path.stat()
        marks.append(os.fsencode(relative))
        if stat.S_ISREG(found.st_mode):
            files[relative] = found.st_size
            marks.append(b"%d %d %d" % (found.st_size, found.st_mtime_ns, found.st_ctime_ns))
        elif stat.S_ISDIR(found.st_mode):
            place = (found.st_dev, found.st_ino)
            if place in parents:
                raise OSError(errno.ELOOP, "a link to a folder that holds it", str(path))
            if relative:
                folders.append(relative)
            for name in sorted(os.listdir(path)):
                visit(path / name, os.path.join(relative, name), (*parents, place))
        else:
            raise OSError(errno.EINVAL, "neither a file nor a folder", str(path))

    try:
        visit(source, "", ())
    except OSError as cause:
        raise DataError(
            f"host {host()}: cannot read {cause.filename or source}: {cause.strerror}"
        ) from cause
    state = xxhash.xxh3_64_hexdigest(b"\0".join(marks))
    key = xxhash.xxh3_64_hexdigest(os.fsencode(os.path.realpath(source)) + b"\0" + state.encode())
    return Source(key, state, files, folders, sum(files.values()))


def copy_in(folder: Path, source: Path, key: str) -> NodeCopy | None:
    """Return the complete copy of a source in a folder, and keep it in use until this process ends.

    Args:
        folder: as from `local_folder`.
        source: the file or folder.
        key: of its `Source`.

    Returns:
        None where there is none.
    """
    return _use(_entry(folder, source, key), source, is_new=False)


def make_copy(folder: Path, source: Path, key: str, *, patience_s: float = 60.0) -> NodeCopy:
    """Copy a file or folder to this node, unless a complete and unchanged copy is there.

    Args:
        folder: as from `local_folder`.
        source: the file or folder.
        key: of its `Source`.
        patience_s: as in `locked`, for another process that copies the same.

    Returns:
        The copy, in use until this process ends.

    Raises:
        DataError: the source cannot be read, changes meanwhile, or has no room here.
    """
    entry = _entry(folder, source, key)
    with locked(folder / (entry.name + _LOCK), patience_s) as is_alone:
        found = None if _is_damaged(entry, source) else _use(entry, source, is_new=False)
        if found:
            return found
        if is_alone:
            for left in folder.glob(f"{escape(entry.name)}{_PARTIAL}*"):
                remove(left)
        remove_left(folder)
        read = read_source(source)
        partial = folder / f"{entry.name}{_PARTIAL}{secrets.token_hex(4)}"
        try:
            _remove_older(folder, source, entry)
            check_space(folder, read.size, len(read.files) + len(read.folders) + 2)
            _fill(partial, source, read)
            remove_whole(entry)
            os.rename(partial, entry)
        except OSError as cause:
            place = f" at {cause.filename}" if cause.filename else ""
            raise DataError(
                f"host {host()}: cannot copy {source} ({read.size:,} bytes) to {folder}: "
                f"{cause.strerror or cause}{place}"
            ) from cause
        finally:
            remove(partial)
        made = _use(entry, source, is_new=True)
    if made is None:
        raise DataError(f"host {host()}: {entry} disappeared as soon as it was complete")
    return made


def check_space(folder: Path, size: int, files: int) -> None:
    """Check that a folder's file system has room.

    Args:
        folder: an existing one.
        size: in bytes.
        files: number of files and folders.

    Raises:
        OSError: ENOSPC, with what is needed and what is free.
    """
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    if size > free:
        raise OSError(errno.ENOSPC, f"no space: {free:,} bytes are free")
    if found.f_files and files > found.f_favail:  # some file systems have no such limit
        raise OSError(errno.ENOSPC, f"no space: {files:,} files, room for {found.f_favail:,}")


@contextlib.contextmanager
def locked(path: Path, patience_s: float = 60.0) -> Iterator[bool]:
    """Hold a lock file, which is removed afterwards.

    Work under it must be safe without it too: the lock only saves doing the same twice.

    Args:
        path: the file, in an existing folder.
        patience_s: a holder that did not touch the file for so long (it is stopped) is not awaited.

    Yields:
        Whether the lock is held: False after `patience_s`, and where the file system has no locks.
    """
    descriptor, is_held = _lock(path, patience_s)
    ended = threading.Event()
    if is_held:
        threading.Thread(target=_touch, args=(descriptor, ended), daemon=True).start()
    try:
        yield is_held
    finally:
        ended.set()
        if is_held:
            path.unlink(missing_ok=True)
        os.close(descriptor)


def shortened(name: str) -> str:
    """Return the first bytes of a file's name, to which something can be appended."""
    return os.fsdecode(os.fsencode(name)[:_NAME_BYTES])


def remove(path: Path) -> None:
    """Remove a file or folder, as far as that is possible."""
    shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _lock(path: Path, patience_s: float) -> tuple[int, bool]:
    last_touch, seen_s = 0, time.monotonic()
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            touched = os.fstat(descriptor).st_mtime_ns
            if touched != last_touch:
                last_touch, seen_s = touched, time.monotonic()
            if time.monotonic() - seen_s > patience_s:
                return descriptor, False
        except OSError:  # of a file system without locks
            return descriptor, False
        else:
            if _is_same(descriptor, path):
                return descriptor, True
            os.close(descriptor)  # its last holder has removed it
            continue
        os.close(descriptor)
        time.sleep(_POLL_S)


def _touch(descriptor: int, ended: threading.Event) -> None:
    """Show waiting processes that this one is not stopped."""
    while not ended.wait(_TOUCH_EVERY_S):
        with contextlib.suppress(OSError):
            os.utime(descriptor)


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _entry(folder: Path, source: Path, key: str) -> Path:
    return folder / f"{shortened(source.name)}-{key}"


def _use(entry: Path, source: Path, *, is_new: bool) -> NodeCopy | None:
    """Return a complete copy, and mark it as used until this process ends."""
    record = _record(entry)
    path = entry / source.name
    if record is None or not os.path.lexists(path):
        return None
    if entry not in _in_use or not _is_same(_in_use[entry], entry / _RECORD):
        try:
            descriptor = os.open(entry / _RECORD, os.O_RDONLY)
        except OSError:
            return None
        with contextlib.suppress(OSError):  # of a file system without locks
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:  # about to be removed
                os.close(descriptor)
                return None
        if not _is_same(descriptor, entry / _RECORD):
            os.close(descriptor)
            return None
        _in_use[entry] = descriptor
    return NodeCopy(path, record["content"], record["bytes"], record["files"], is_new)


def _record(entry: Path) -> dict[str, Any] | None:
    try:
        record = json.loads((entry / _RECORD).read_text())
    except (OSError, ValueError):
        return None
    # After a crash of the node the contents may not have reached the disk.
    return record if isinstance(record, dict) and record.get("boot") == _boot() else None


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _is_damaged(entry: Path, source: Path) -> bool:
    """Check a copy's names, sizes and times: /tmp may be cleaned, a program may write there."""
    record = _record(entry)
    try:
        return record is not None and read_source(entry / source.name).state != record["state"]
    except DataError:
        return True


def remove_whole(entry: Path) -> None:
    """Remove a copy: at no time is a part of it at its place."""
    aside = entry.with_name(f"{entry.name}{_PARTIAL}{secrets.token_hex(4)}")
    with contextlib.suppress(FileNotFoundError):
        os.rename(entry, aside)
    remove(aside)


def remove_left(folder: Path) -> None:
    """Remove what killed processes have left of anything."""
    for left in folder.glob(f"*{_PARTIAL}*"):
        lock = folder / (left.name.rpartition(_PARTIAL)[0] + _LOCK)
        with contextlib.suppress(OSError), locked(lock, 0.0) as is_alone:
            if is_alone:
                remove(left)


def _remove_older(folder: Path, source: Path, entry: Path) -> None:
    """Remove copies of earlier states of the source that no process uses."""
    stem = entry.name.rpartition("-")[0]
    for older in folder.glob(f"{escape(stem)}-{'[0-9a-f]' * len(entry.name[len(stem) + 1 :])}"):
        record = _record(older)
        if older == entry or record is None or record.get("source") != os.fspath(source):
            continue
        with contextlib.suppress(OSError), open(older / _RECORD) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_whole(older)


def _fill(partial: Path, source: Path, read: Source) -> None:
    """Copy the source and write the record; several threads, each with a file."""
    target = partial / source.name
    for each in (partial, *(target / folder for folder in (["", *read.folders]))):
        if each != target or "" not in read.files:
            each.mkdir(mode=0o700)
    hashes: dict[str, str] = {}
    pending, taking = iter(read.files), threading.Lock()
    failed = threading.Event()

    def work(_: int) -> None:
        while not failed.is_set():
            with taking:
                name = next(pending, None)
            if name is None:
                return
            try:
                here = target / name if name else target
                hashes[name] = _copy_file(source / name if name else source, here)
            except BaseException:
                failed.set()
                raise

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(work, range(_THREADS)))
    if read_source(source).key != read.key:
        raise OSError(errno.EAGAIN, "the source changed while it was copied")
    content = xxhash.xxh3_128()
    for name in read.files:
        content.update(os.fsencode(name) + b"\0" + hashes[name].encode())
    record = {
        "source": os.fspath(source),
        "content": content.hexdigest(),
        "state": read_source(target).state,
        "bytes": read.size,
        "files": len(read.files),
        "boot": _boot(),
    }
    (partial / _RECORD).write_text(json.dumps(record))


def _copy_file(source: Path, target: Path) -> str:
    """Copy a file with its mode and times, compare what was written; return the content's hash."""
    hashed = xxhash.xxh3_128()
    with open(source, "rb") as file, open(target, "xb") as into:
        while chunk := file.read(_CHUNK_BYTES):
            hashed.update(chunk)
            into.write(chunk)
        found = os.fstat(file.fileno())
        os.fchmod(into.fileno(), stat.S_IMODE(found.st_mode) & 0o777)
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
    digest = hashed.hexdigest()
    if hash_file(target) != digest:
        raise OSError(errno.EIO, "what was written differs from what was read", str(target))
    return digest


def hash_file(path: Path) -> str:
    """Return the hash (XXH3, 128 bits) of a file's content."""
    hashed = xxhash.xxh3_128()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            hashed.update(chunk)
    return hashed.hexdigest()

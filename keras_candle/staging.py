"""Data on the nodes' own disks: `candle.stage` and `candle.get_file`, called on all ranks."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import os
import secrets
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any, NamedTuple

from keras_candle import engine as engines
from keras_candle.cluster import node_copy
from keras_candle.cluster.node_copy import NodeCopy
from keras_candle.engine.base import Engine
from keras_candle.errors import DataError

_CHUNK_BYTES = 16 << 20
# File systems show a new name on other nodes with a delay.
_VISIBLE_WITHIN_S, _POLL_S = 60.0, 0.1
# Folders beside a file: in which the holder of its lock downloads, or a node receives it.
_PARTIAL, _RECEIVED = ".partial-", ".received-"
# A node that writes nothing for so long receives no more.
_LEFT_FOR_S = 3600.0


def stage(path: str | os.PathLike[str], directory: str | os.PathLike[str] | None = None) -> Path:
    """Copy a file or folder to each node's own disk, once per node; call this on all ranks.

    One rank of each node copies, the rest of its ranks wait. A copy is reused, by later jobs too,
    until a name, size or time in the source changes; then it is replaced. What is written is
    compared with what was read, and the nodes' copies with each other. Jobs that stage the same
    at once share one copy. Links are followed.

    Args:
        path: the file or folder; where it is relative, to the root's working directory.
        directory: a folder on the node's own disk, made if it does not exist. None: the first of
            the variables SLURM_TMPDIR, FLUX_JOB_TMPDIR, TMPDIR that is set, else /tmp. The copy is
            in its subfolder keras_candle-<user id>, which only this user can read.

    Returns:
        The path of the copy, under its own name; read-only by convention: a copy in which
        something was changed is not reused.

    Raises:
        DataError: on all ranks, when on some node the source cannot be read or the copy has no
            room; names the host, the path and the bytes. Nothing half-written remains.

    Example:
        >>> import keras_candle as candle, numpy as np, tempfile
        >>> with tempfile.TemporaryDirectory() as shared, tempfile.TemporaryDirectory() as local:
        ...     np.save(f"{shared}/x.npy", np.arange(3))
        ...     np.load(candle.stage(f"{shared}/x.npy", local))
        array([0, 1, 2])
    """
    engine, begun_s = engines.current(), time.monotonic()
    given = engine.agree("the path for candle.stage", path, DataError)
    source, key = engine.on_root(lambda: _identify(given), DataError)

    def copy() -> NodeCopy:
        return node_copy.make_copy(node_copy.local_folder(directory, os.environ), source, key)

    def find() -> NodeCopy | None:
        return node_copy.copy_in(node_copy.local_folder(directory, os.environ), source, key)

    copies = engine.gather_results(lambda: copy() if engine.local_rank == 0 else None, DataError)
    # Containers on one node may have disks of their own, where the rest of the ranks find nothing.
    own = engine.gather_results(lambda: find() or copy(), DataError)
    _compare(engine, source, own)
    made = [each for each in copies if each]
    new = sum(each.is_new for each in made)
    engine.print_on_root(
        f"{source} ({made[0].size:,} bytes, {made[0].files:,} file"
        f"{'s' * (made[0].files != 1)}) is on {len(made)} node"
        f"{'s' * (len(made) > 1)}: {new} copied, {len(made) - new} reused, "
        f"{time.monotonic() - begun_s:.1f} s"
    )
    found: NodeCopy = own[engine.rank]
    return found.path


def get_file(  # noqa: PLR0913, PLR0917 - Keras's arguments
    fname: str | os.PathLike[str] | None = None,
    origin: str | None = None,
    untar: bool = False,
    md5_hash: str | None = None,
    file_hash: str | None = None,
    cache_subdir: str = "datasets",
    hash_algorithm: str = "auto",
    extract: bool = False,
    archive_format: Any = "auto",
    cache_dir: str | os.PathLike[str] | None = None,
    force_download: bool = False,
) -> str:
    """Download a file once for all ranks, as `keras.utils.get_file` does; call this on all ranks.

    The root downloads, unless its cache has the file; the rest wait. Nodes that do not share the
    root's cache receive the file from the root. Files appear in a cache when they are complete and
    their hash is right, extracted ones too. Jobs that want the same file at once download it once.

    Args:
        fname: name of the file in the cache; None for the origin's.
        origin: URL.
        untar: as `extract`; for tar files.
        md5_hash: as `file_hash`.
        file_hash: sha256 or md5 of the file.
        cache_subdir: folder below `cache_dir`, or an absolute path.
        hash_algorithm: "auto", "sha256" or "md5".
        extract: whether the file is an archive to extract.
        archive_format: "auto", "tar", "zip" or None.
        cache_dir: None for $KERAS_HOME, or ~/.keras.
        force_download: download also what is in the cache.

    Returns:
        The path of the file or of the folder with the extracted files, as Keras's function.

    Raises:
        DataError: on all ranks, when the download or its installation on some node fails; it names
            the host. On one rank errors are Keras's own.
    """
    engine = engines.current()
    download = _Download(
        None if fname is None else os.fspath(fname),
        origin,
        bool(untar or extract),
        "tar" if untar else archive_format,
        file_hash or md5_hash,
        hash_algorithm if file_hash else "md5",
        cache_subdir,
        cache_dir,
        force_download,
    )
    if engine.size == 1:
        return download.path_of(download.get())
    arguments = (fname, origin, untar, md5_hash, file_hash, cache_subdir, hash_algorithm)
    more = (extract, archive_format, force_download)
    engine.agree("the arguments for candle.get_file", (*arguments, *more), DataError)
    mark = engine.broadcast(f".candle-{secrets.token_hex(8)}")
    try:
        found = engine.on_root(lambda: download.get_as_root(mark), DataError)
        _distribute(engine, download, found, mark)
    finally:
        if engine.is_root:
            node_copy.remove(Path(download.folder(), mark))
    return str(engine.gather_results(lambda: download.wait_for(found.path), DataError)[engine.rank])


class _Cached(NamedTuple):
    """What the root's cache has: the result and the downloaded file, by their names there."""

    path: str
    archive: str
    size: int


@dataclass(frozen=True)
class _Download:
    """The arguments of `get_file`."""

    fname: str | None
    origin: str | None
    extract: bool
    archive_format: Any
    file_hash: str | None
    hash_algorithm: str
    cache_subdir: str
    cache_dir: str | os.PathLike[str] | None
    force: bool

    def folder(self) -> str:
        """Return the folder of the cache, chosen as Keras chooses it."""
        home = os.environ.get("KERAS_HOME", os.path.join("~", ".keras"))
        base = os.path.expanduser(self.cache_dir or home)
        if not os.access(base, os.W_OK):
            base = os.path.join(
                "/tmp" if os.path.isdir("/tmp") else tempfile.gettempdir(),  # noqa: S108
                ".keras",
            )
        return os.path.join(base, self.cache_subdir)

    def path_of(self, name: str) -> str:
        return os.path.join(self.folder(), name)

    def archive_name(self) -> str:
        """Return the name that Keras gives the downloaded file; empty where it refuses."""
        name = self.fname or os.path.basename(urllib.parse.urlsplit(self.origin or "").path)
        if os.sep in name or not name or not self.origin:
            return ""
        return f"{name}_archive" if self.extract and not (self.fname and "." in name) else name

    def get(self) -> str:
        """Download and extract into the cache; return the result's name there."""
        name = self.archive_name()
        if not name:
            return self._keras_get_file(self.folder())
        folder = Path(self.folder())
        folder.mkdir(parents=True, exist_ok=True)
        with node_copy.locked(folder / f".{node_copy.shortened(name)}.lock") as is_alone:
            if is_alone:
                self._remove_left(_PARTIAL)
            if self.force or not self._is_cached(folder / name):
                with self.scratch(_PARTIAL) as scratch:
                    return self._install(scratch, self._keras_get_file(scratch))
            return self.install(folder / name, _PARTIAL)

    def get_as_root(self, mark: str) -> _Cached:
        """Do `get`, and leave a mark by which ranks of all nodes recognize this folder."""
        try:
            path = self.get()
            archive = Path(self.path_of(self.archive_name()))
            Path(self.path_of(mark)).touch()
            return _Cached(path, archive.name, archive.stat().st_size)
        except Exception as cause:
            raise DataError(
                f"host {node_copy.host()}: candle.get_file of {self.origin!r} into "
                f"{self.folder()}: {type(cause).__name__}: {cause}"
            ) from cause

    @contextlib.contextmanager
    def scratch(self, kind: str) -> Iterator[Path]:
        """Make a folder beside the file, which is removed afterwards."""
        scratch = Path(tempfile.mkdtemp(prefix=self._prefix(kind), dir=self.folder()))
        try:
            yield scratch
        finally:
            node_copy.remove(scratch)

    def install(self, archive: Path, kind: str) -> str:
        """Extract a file, which need not be in the cache; return the result's name there."""
        name = self.archive_name()
        cached = Path(self.path_of(name))
        if not self.extract:
            if archive != cached:
                os.replace(archive, cached)
            return name
        with self.scratch(kind) as scratch:
            if archive != cached:
                os.rename(archive, scratch / name)
            else:
                (scratch / name).symlink_to(archive.absolute())
            return self._install(scratch, self._keras_get_file(scratch, is_verified=True))

    def wait_for(self, name: str) -> str:
        """Return the path of a result; a shared file system may show it a little later."""
        path = self.path_of(name)
        deadline_s = time.monotonic() + _VISIBLE_WITHIN_S
        while not os.path.exists(path):
            if time.monotonic() > deadline_s:
                raise DataError(f"host {node_copy.host()}: {path} is not visible to this rank")
            time.sleep(_POLL_S)
            with contextlib.suppress(OSError):
                os.listdir(os.path.dirname(path))
        return path

    def receive_into(self) -> Path:
        """Make the folder of the cache, and remove what killed processes have received there."""
        folder = Path(self.folder())
        folder.mkdir(parents=True, exist_ok=True)
        self._remove_left(_RECEIVED, _LEFT_FOR_S)
        return folder

    def _prefix(self, kind: str) -> str:
        return f".{node_copy.shortened(self.archive_name())}{kind}"

    def _remove_left(self, kind: str, for_s: float = 0.0) -> None:
        for left in Path(self.folder()).glob(f"{escape(self._prefix(kind))}*"):
            with contextlib.suppress(OSError):
                written_s = max(each.lstat().st_ctime for each in (left, *left.iterdir()))
                if time.time() - written_s >= for_s:
                    node_copy.remove(left)

    def _is_cached(self, path: Path) -> bool:
        if not path.exists() or not self.file_hash:
            return path.exists()
        is_long = self.hash_algorithm == "auto" and len(self.file_hash) == 64
        algorithm = "sha256" if self.hash_algorithm == "sha256" or is_long else "md5"
        with open(path, "rb") as file:
            return hashlib.file_digest(file, algorithm).hexdigest() == self.file_hash

    def _keras_get_file(self, folder: str | Path, *, is_verified: bool = False) -> str:
        import keras

        # With --auto Keras's function waits for the root, which may not call it.
        get_file = inspect.unwrap(keras.utils.get_file)
        result = get_file(
            self.fname,
            self.origin,
            file_hash=None if is_verified else self.file_hash,
            hash_algorithm=self.hash_algorithm,
            cache_subdir=os.path.abspath(folder),
            extract=self.extract,
            archive_format=self.archive_format,
        )
        return os.path.relpath(result, os.path.abspath(folder))

    def _install(self, scratch: Path, result: str) -> str:
        """Move files from a folder beside the cache's into it: each is whole at any time."""
        folder = Path(self.folder())
        linked = self.archive_name() if (scratch / self.archive_name()).is_symlink() else None
        for place, folders, names in os.walk(scratch):
            here, into = Path(place), folder / Path(place).relative_to(scratch)
            into.mkdir(exist_ok=True)
            links = [name for name in folders if (here / name).is_symlink()]
            for name in (*names, *links):
                if here != scratch or name != linked:
                    os.replace(here / name, into / name)
        return result


def _distribute(engine: Engine, download: _Download, found: _Cached, mark: str) -> None:
    """Give the file to nodes whose cache is not the root's; the first rank of a node writes."""

    def is_shared() -> bool:
        return engine.local_rank > 0 or os.path.exists(download.path_of(mark))

    shared = _on_host(engine, is_shared, found)
    if all(shared):
        return
    archive = Path(download.path_of(found.archive))
    content = engine.on_root(lambda: node_copy.hash_file(archive), DataError)

    def is_missing() -> bool:
        if shared[engine.rank]:
            return False
        folder = download.receive_into()
        missing = not archive.exists() or node_copy.hash_file(archive) != content
        if missing:
            node_copy.check_space(folder, found.size, 2)
        return missing

    missing = _on_host(engine, is_missing, found)
    with contextlib.ExitStack() as stack:

        def open_scratch() -> Path | None:
            if not missing[engine.rank]:
                return None
            return stack.enter_context(download.scratch(_RECEIVED)) / "file"

        into, problem = None, None
        if any(missing):
            into = _on_host(engine, open_scratch, found)[engine.rank]
            problem = _receive(engine, archive, into)

        def install() -> None:
            if problem:
                raise problem
            if into and node_copy.hash_file(into) != content:
                raise DataError("what was received differs from what the root has")
            if not shared[engine.rank]:
                download.install(into or archive, _RECEIVED)

        _on_host(engine, install, found)


def _on_host(engine: Engine, work: Callable[[], Any], found: _Cached) -> list[Any]:
    """Do `gather_results`; an error names the host, the file and its bytes."""

    def named() -> Any:
        try:
            return work()
        except Exception as cause:
            raise DataError(
                f"host {node_copy.host()}: cannot store {found.archive} ({found.size:,} bytes): "
                f"{cause}"
            ) from cause

    return engine.gather_results(named, DataError)


def _receive(engine: Engine, archive: Path, into: Path | None) -> OSError | None:
    """Send the root's file to all ranks; those with `into` write it. Return this rank's problem."""
    problem: OSError | None = None
    offset = 0

    def read() -> bytes:
        with open(archive, "rb") as file:
            file.seek(offset)
            return file.read(_CHUNK_BYTES)

    while chunk := engine.on_root(read, DataError):
        offset += len(chunk)
        if into and problem is None:
            try:
                with open(into, "ab") as file:
                    file.write(chunk)
            except OSError as cause:
                problem = cause
    return problem


def _identify(path: str | os.PathLike[str]) -> tuple[Path, str]:
    source = Path(os.path.abspath(path))
    if not os.fspath(path) or not source.name:
        raise DataError(f"candle.stage got {os.fspath(path)!r}, expected a file or a folder")
    return source, node_copy.read_source(source).key


def _compare(engine: Engine, source: Path, copies: list[NodeCopy]) -> None:
    """Check that all nodes have the same: a change may keep a file's size and times."""
    hosts = engine.gather_objects(node_copy.host())
    contents = {copy.content: (host, copy.path) for host, copy in zip(hosts, copies, strict=True)}
    if len(contents) > 1:
        listed = ", ".join(f"{path} on {host}" for host, path in contents.values())
        raise DataError(
            f"The nodes' copies of {source} differ: {listed}; the source changed between them, or "
            "is another one on another node. Remove these copies and stage again"
        )

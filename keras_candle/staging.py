"""Data on the nodes' own disks: `candle.stage` and `candle.get_file`, called on all ranks."""

from __future__ import annotations

import os
import time
from pathlib import Path

from keras_candle import engine as engines
from keras_candle.cluster import node_copy
from keras_candle.cluster.node_copy import NodeCopy
from keras_candle.engine.base import Engine
from keras_candle.errors import DataError


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
        f"{source} ({made[0].size:,} bytes, {made[0].files:,} files) is on {len(made)} node"
        f"{'s' * (len(made) > 1)}: {new} copied, {len(made) - new} reused, "
        f"{time.monotonic() - begun_s:.1f} s"
    )
    found: NodeCopy = own[engine.rank]
    return found.path


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

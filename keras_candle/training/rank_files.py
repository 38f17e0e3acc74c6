"""Save models atomically: any rank may read a file while the root replaces it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

_ONE_FILE = (".keras", ".h5")


def save_whole(save: Callable[..., Any], filepath: Any, *args: Any, **kwargs: Any) -> Any:
    """Call one of Keras's saving methods so that the file is never half written.

    It writes a single file to a temporary name beside it and renames it when complete: a process
    that reads the previous file keeps reading that.

    Args:
        save: `Model.save`, `save_weights` or `export` of a model.
        filepath: the destination; passed on unchanged where it is not a single local file.
        *args: further arguments.
        **kwargs: further arguments.

    Returns:
        The value that `save` returns.
    """
    path = Path(filepath) if isinstance(filepath, str | os.PathLike) else None
    overwrites = args[0] if args else kwargs.get("overwrite", True)
    one_file = path is not None and path.suffix in _ONE_FILE and "://" not in str(filepath)
    in_parts = kwargs.get("zipped") is False or kwargs.get("max_shard_size") is not None
    if path is None or not one_file or in_parts or not (overwrites or not path.exists()):
        return save(filepath, *args, **kwargs)
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        result = save(partial, *args, **kwargs)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return result

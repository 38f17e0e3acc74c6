"""Files that another rank may read while the root writes the next one in their place."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

_ONE_FILE = (".keras", ".h5")


def save_whole(save: Callable[..., Any], filepath: Any, *args: Any, **kwargs: Any) -> Any:
    """Call one of Keras's saving methods so that there is no moment with half a file.

    A single file is written beside its place and put there when it is whole: who reads the one
    before goes on reading that.

    Args:
        save: `Model.save`, `save_weights` or `export` of a model.
        filepath: where to; what is no single local file is left to Keras.
        *args: further arguments.
        **kwargs: further arguments.

    Returns:
        What `save` returns.
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

"""What the page calls each of several directories: as short as tells them apart."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path


def names_of(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of different paths that are all different.

    Example:
        >>> names_of([Path("/a/one/run"), Path("/a/two/run")])
        ['one/run', 'two/run']
        >>> names_of([Path("/a/one/run"), Path("/a/two")])
        ['run', 'two']
    """
    for parts in itertools.count(1):
        names = ["/".join(each.parts[-parts:]) or str(each) for each in paths]
        if len(set(names)) == len(names) or parts > max(len(each.parts) for each in paths):
            break
    return names

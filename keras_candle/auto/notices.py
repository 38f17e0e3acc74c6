"""Notices on the root about changes by --auto: each kind once, and totals at the end."""

from __future__ import annotations

import atexit
from collections import Counter

from keras_candle import engine as engines

_times: Counter[str] = Counter()


def notice(kind: str, first: str) -> None:
    """Count a change, and print a sentence for the first of its kind.

    Args:
        kind: the kind of change, in the plural.
        first: the sentence for the first one.
    """
    if not _times:
        atexit.register(_print_totals)
    _times[kind] += 1
    if _times[kind] == 1:
        engines.current().print_on_root(f"--auto: {first}")


def _print_totals() -> None:
    several = [f"{times} {kind}" for kind, times in _times.items() if times > 1]
    if several:
        engines.current().print_on_root(f"--auto: in all {', '.join(several)}")

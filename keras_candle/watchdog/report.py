"""The report about a job that makes no progress."""

from __future__ import annotations

from collections.abc import Sequence

from keras_candle.watchdog.snapshot import RankSnapshot
from keras_candle.watchdog.verdict import Suspects


def report(
    ranks: Sequence[RankSnapshot], found: Suspects, quiet_s: float, left: Sequence[int]
) -> str:
    """Format a stall report: the verdict, each rank's place, stacks, and the program's line.

    Args:
        ranks: all ranks that are still in the training.
        found: the ranks for which the rest wait.
        quiet_s: how long there was no progress.
        left: ranks that have left the training.
    """
    guilty = found.ranks
    lines = [f"keras_candle: no progress for {quiet_s:.0f} s. {_sentence(guilty, ranks)}"]
    groups: dict[str, list[int]] = {}
    for each in ranks:
        groups.setdefault(f"{each.where()}; last collective: {each.last_collective()}", []).append(
            each.rank
        )
    lines += [f"  {_names(numbers)}: {what}" for what, numbers in groups.items()]
    if left:
        lines.append(f"  {_names(sorted(left))}: out of the training")
    for each in _shown(guilty, ranks):
        stacks = each.stacks.strip() or f"(not available: {each.condition()})"
        lines.append(f"--- stacks of rank {each.rank}, host {each.host}, pid {each.pid} ---")
        lines.append(stacks)
    return "\n".join([*lines, f"keras_candle: {found.sentence(len(ranks))}", ""])


def _sentence(guilty: Sequence[RankSnapshot], ranks: Sequence[RankSnapshot]) -> str:
    if len(ranks) > 1 and len(guilty) == len(ranks) and not guilty[0].explains_stall:
        return "No rank is behind the others: see their stacks."
    first = guilty[0]
    who = _names([each.rank for each in guilty])
    number = "The others wait for" if len(ranks) > len(guilty) else "It is"
    return (
        f"{number} {who}: {first.where()}, host {first.host}, pid {first.pid}, {first.condition()}."
    )


def _shown(guilty: Sequence[RankSnapshot], ranks: Sequence[RankSnapshot]) -> list[RankSnapshot]:
    """Select some ranks of each kind: thousands may wait in the same place."""
    waiting = [each for each in ranks if each not in guilty]
    return [*guilty[:4], *waiting[:2]]


def _names(numbers: Sequence[int]) -> str:
    many = len(numbers) > 1
    listed = ", ".join(map(str, numbers[:8]))
    more = f" and {len(numbers) - 8} more" if len(numbers) > 8 else ""
    return f"{'ranks' if many else 'rank'} {listed}{more}"

"""Find the ranks for which the rest of the job waits, and where they are in the program."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from keras_candle.call_site import is_users, place
from keras_candle.watchdog.snapshot import RankSnapshot

_FRAME = re.compile(r'^  File "([^"]+)", line (\d+) in (.+)$', re.MULTILINE)


@dataclass(frozen=True)
class Suspects:
    """The ranks for which the rest of the job waits.

    Attributes:
        ranks: at least one; all where they cannot be distinguished.
        places: where each is in the user's program, "" where its stacks do not show it.
    """

    ranks: list[RankSnapshot]
    places: list[str]

    def sentence(self, of: int) -> str:
        """Describe the suspects in one line.

        Args:
            of: number of ranks in the training.
        """
        if len(self.ranks) == of > 1:
            return "no rank is behind the others: see their stacks in the report"
        first, at = self.ranks[0], self.places[0]
        more = f" (and {len(self.ranks) - 1} more)" if len(self.ranks) > 1 else ""
        return (
            f"rank {first.rank}{more} made no progress {first.where()}"
            f"{f', at {at}' if at else ''} (host {first.host}, pid {first.pid}, "
            f"{first.condition()})"
        )


def suspects(ranks: Sequence[RankSnapshot]) -> Suspects:
    """Find the ranks for which the rest of the job waits.

    A rank that waits in a collective is not a suspect as long as another is not in it. Collectives
    inside of TensorFlow's graph are not counted: there the stacks show which ranks are alone in a
    line.

    Args:
        ranks: all ranks in the training, at least one, with their stacks.
    """
    frames = [user_frames(each.stacks) for each in ranks]
    counts = Counter(frame for each in frames for frame in set(each))
    found = [i for i, each in enumerate(ranks) if each.explains_stall] or _behind(ranks)
    if len(found) == len(ranks) > 1 and not ranks[0].explains_stall:
        few = len(ranks) / 2
        alone = [i for i, each in enumerate(frames) if any(counts[one] <= few for one in each)]
        found = alone or found
    return Suspects([ranks[i] for i in found], [_place(frames[i], counts) for i in found])


def _behind(ranks: Sequence[RankSnapshot]) -> list[int]:
    outside = [i for i, each in enumerate(ranks) if not each.in_collective]
    asked = outside or range(len(ranks))
    first = min(_position(ranks[i]) for i in asked)
    return [i for i in asked if _position(ranks[i]) == first]


def _position(snapshot: RankSnapshot) -> tuple[int, int, int, int]:
    return snapshot.epoch, snapshot.step, snapshot.place, snapshot.collectives


def user_frames(stacks: str) -> list[str]:
    """Return a rank's frames in the user's own files, the main thread's first, innermost first.

    Args:
        stacks: as faulthandler writes them.
    """
    threads = stacks.split("\n\n")
    # The thread that took the signal: see `keras_candle.watchdog.stacks`.
    threads.sort(key=lambda each: not each.lstrip().startswith("Current thread"))
    found = [match for each in threads for match in _FRAME.findall(each)]
    return [place(path, int(line), name) for path, line, name in found if is_users(path)]


def _place(frames: Sequence[str], counts: Counter[str]) -> str:
    """Return the frame of a rank that the fewest ranks share."""
    return min(frames, key=lambda each: counts[each], default="")

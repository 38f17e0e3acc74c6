"""Which of the ranks the others wait for, and where it is."""

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
    """Those that the others wait for.

    Attributes:
        ranks: at least one; all where nothing tells them apart.
        places: where each is in the user's program, "" where its stacks do not say.
    """

    ranks: list[RankSnapshot]
    places: list[str]

    def sentence(self, of: int) -> str:
        """One line for the end of the screen.

        Args:
            of: how many ranks are in the training.
        """
        if len(self.ranks) == of > 1:
            return "no rank is behind the others: their stacks stand in the report"
        first, at = self.ranks[0], self.places[0]
        more = f" (and {len(self.ranks) - 1} more)" if len(self.ranks) > 1 else ""
        return (
            f"rank {first.rank}{more} made no progress {first.where()}"
            f"{f', at {at}' if at else ''} (host {first.host}, pid {first.pid}, "
            f"{first.condition()})"
        )


def suspects(ranks: Sequence[RankSnapshot]) -> Suspects:
    """Find them.

    A rank that waits in a collective is none as long as another is not in it. Collectives inside
    of TensorFlow's graph cannot be seen: there the stacks tell who is where only few are.

    Args:
        ranks: all that are in the training, at least one, with their stacks.
    """
    frames = [user_frames(each.stacks) for each in ranks]
    counts = Counter(frame for each in frames for frame in set(each))
    found = [i for i, each in enumerate(ranks) if each.is_odd] or _behind(ranks)
    if len(found) == len(ranks) > 1 and not ranks[0].is_odd:
        few = len(ranks) / 2
        alone = [i for i, each in enumerate(frames) if any(counts[one] <= few for one in each)]
        found = alone or found
    return Suspects([ranks[i] for i in found], [_place(frames[i], counts) for i in found])


def _behind(ranks: Sequence[RankSnapshot]) -> list[int]:
    outside = [i for i, each in enumerate(ranks) if not each.in_collective]
    asked = outside or range(len(ranks))
    first = min(_position(ranks[i]) for i in asked)
    return [i for i in asked if _position(ranks[i]) == first]


def _position(facts: RankSnapshot) -> tuple[int, int, int, int]:
    return facts.epoch, facts.step, facts.place, facts.collectives


def user_frames(stacks: str) -> list[str]:
    """The places of a rank in the user's own files, the main thread's first, innermost first.

    Args:
        stacks: as faulthandler writes them.
    """
    threads = stacks.split("\n\n")
    # The thread that the rank was asked on: see `keras_candle.watchdog.stacks`.
    threads.sort(key=lambda each: not each.lstrip().startswith("Current thread"))
    found = [match for each in threads for match in _FRAME.findall(each)]
    return [place(path, int(line), name) for path, line, name in found if is_users(path)]


def _place(frames: Sequence[str], counts: Counter[str]) -> str:
    """Of a rank's places that where the fewest ranks are."""
    return min(frames, key=lambda each: counts[each], default="")

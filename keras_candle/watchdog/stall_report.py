"""Find the ranks for which the rest of the job waits, and report where each rank is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from keras_candle.call_site import is_users, place
from keras_candle.watchdog import heartbeat

_WHERE = {
    heartbeat.BETWEEN_STEPS: "after step {done}",
    heartbeat.IN_STEP: "in step {next}",
    heartbeat.IN_CALLBACKS: "in the callbacks after step {next}",
    heartbeat.IN_EVALUATION: "in the evaluation after step {done}",
    heartbeat.AT_EPOCH_END: "in the callbacks at the end of the epoch, after step {done}",
}
_STATES = {
    "T": "its process is stopped (by SIGSTOP or a debugger)",
    "t": "its process is stopped (by a debugger)",
    "D": "its process waits for a disk or a network file system",
    "Z": "its process has ended",
    "": "its process is gone",
}


@dataclass(kw_only=True)
class RankSnapshot(heartbeat.Heartbeat):
    """The state of a rank: its progress, its process and its stacks.

    Attributes:
        rank: its number.
        host: its node.
        pid: its process ID.
        state: see `keras_candle.watchdog.rank_watch.state_of`.
        answers: whether its watcher answers.
        unheard_s: since when nothing has arrived from its node, 0 where it is heard.
        stacks: the stacks of all threads.
    """

    rank: int
    host: str
    pid: int
    state: str
    answers: bool = True
    unheard_s: float = 0.0
    stacks: str = ""

    @property
    def explains_stall(self) -> bool:
        """Whether the state of the process explains the stall."""
        return bool(self.unheard_s) or not self.answers or self.state in _STATES

    def condition(self) -> str:
        """Describe the state of the process as seen from outside."""
        if self.unheard_s:
            return f"it is not heard since {self.unheard_s:.0f} s"
        if not self.answers:
            return "its watcher does not answer"
        return _STATES.get(self.state, "its process runs or waits")

    def where(self) -> str:
        """Describe where the rank is in the run."""
        where = _WHERE[self.place].format(done=self.step, next=self.step + 1)
        return f"{where} of the run (epoch {self.epoch + 1})"

    def last_collective(self) -> str:
        """Describe the last collective that the rank has begun."""
        if self.place == heartbeat.IN_STEP and self.in_graph:
            return f"of step {self.step + 1}, in the graph: {self.in_graph}"
        return f"{self.collective} (its number {self.collectives})" if self.collectives else "none"


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
        if self.ranks[0].unheard_s:
            return _unheard(self.ranks)
        if len(self.ranks) == of > 1:
            return "no rank is behind the others: see their stacks in the report"
        first, at = self.ranks[0], self.places[0]
        more = f" (and {len(self.ranks) - 1} more)" if len(self.ranks) > 1 else ""
        return (
            f"rank {first.rank}{more} made no progress {first.where()}"
            f"{f', at {at}' if at else ''} (host {first.host}, pid {first.pid}, "
            f"{first.condition()})"
        )


def _unheard(ranks: Sequence[RankSnapshot]) -> str:
    hosts = list(dict.fromkeys(each.host for each in ranks))
    which, it = ("hosts", "them") if len(hosts) > 1 else ("host", "it")
    return (
        f"{_names([each.rank for each in ranks])} {'are' if len(ranks) > 1 else 'is'} not heard: "
        f"{which} {_listed(hosts)} or the network to {it} is down, since "
        f"{max(each.unheard_s for each in ranks):.0f} s; last seen {ranks[0].where()}"
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
    found = (
        [i for i, each in enumerate(ranks) if each.unheard_s]
        # Of a rank whose watcher has ended, the last state is not known.
        or [i for i, each in enumerate(ranks) if each.answers and each.explains_stall]
        or [i for i, each in enumerate(ranks) if not each.answers]
        or _behind(ranks)
    )
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
    # The thread that took the signal: see `keras_candle.watchdog.rank_watch`.
    threads.sort(key=lambda each: not each.lstrip().startswith("Current thread"))
    found = [match for each in threads for match in _FRAME.findall(each)]
    return [place(path, int(line), name) for path, line, name in found if is_users(path)]


def _place(frames: Sequence[str], counts: Counter[str]) -> str:
    """Return the frame of a rank that the fewest ranks share."""
    return min(frames, key=lambda each: counts[each], default="")


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
    if guilty[0].unheard_s:
        sentence = _unheard(guilty)
        return f"{sentence[0].upper()}{sentence[1:]}."
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
    return f"{'ranks' if len(numbers) > 1 else 'rank'} {_listed(numbers)}"


def _listed(items: Sequence[object]) -> str:
    more = f" and {len(items) - 8} more" if len(items) > 8 else ""
    return f"{', '.join(map(str, items[:8]))}{more}"

"""What the watchers tell each other about a rank, and who of them is the one that stands still."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keras_candle.watchdog import board

_WHERE = {
    board.BETWEEN_STEPS: "after step {done}",
    board.IN_STEP: "in step {next}",
    board.IN_CALLBACKS: "in the callbacks after step {next}",
    board.IN_EVALUATION: "in the evaluation after step {done}",
    board.AT_EPOCH_END: "in the callbacks at the end of the epoch, after step {done}",
}
_STATES = {
    "T": "its process is stopped (by SIGSTOP or a debugger)",
    "t": "its process is stopped (by a debugger)",
    "D": "its process waits for a disk or a network file system",
    "Z": "its process has ended",
    "": "its process is gone",
}


@dataclass
class Facts:
    """What is known of a rank.

    Attributes:
        rank: its number.
        host: its node.
        pid: its process.
        state: see `keras_candle.watchdog.stacks.state_of`.
        beats: see `keras_candle.watchdog.board.Seen`, as the next six.
        epoch: under way, from 0.
        step: steps done.
        place: where it is.
        collectives: begun.
        collective: the last of them.
        in_graph: those that each step runs.
        answers: whether its watcher does.
        stacks: every thread's.
    """

    rank: int
    host: str
    pid: int
    state: str
    beats: int
    epoch: int
    step: int
    place: int
    collectives: int
    collective: str
    in_graph: str
    answers: bool = True
    stacks: str = ""

    @property
    def is_odd(self) -> bool:
        """Whether the process itself tells why there is no progress."""
        return not self.answers or self.state in _STATES

    def condition(self) -> str:
        """What is the matter with the process, as far as one can see from outside."""
        if not self.answers:
            return "nothing is heard of its node"
        return _STATES.get(self.state, "its process runs or waits")

    def where(self) -> str:
        """Where it is, in words."""
        where = _WHERE[self.place].format(done=self.step, next=self.step + 1)
        return f"{where} of the run (epoch {self.epoch + 1})"

    def last_collective(self) -> str:
        """The last one that it has begun."""
        if self.place == board.IN_STEP and self.in_graph:
            return f"of step {self.step + 1}, in the graph: {self.in_graph}"
        return f"{self.collective} (its number {self.collectives})" if self.collectives else "none"


def stuck(ranks: Sequence[Facts]) -> list[Facts]:
    """Those that the others wait for.

    Args:
        ranks: all that are in the training, at least one.

    Returns:
        Those whose process stands still; where there are none, those that are behind the others;
        where none is, all.
    """
    odd = [each for each in ranks if each.is_odd]
    if odd:
        return odd
    first = min(_position(each) for each in ranks)
    return [each for each in ranks if _position(each) == first]


def _position(facts: Facts) -> tuple[int, int, int, int]:
    return facts.epoch, facts.step, facts.place, facts.collectives


def report(ranks: Sequence[Facts], quiet_s: float, left: Sequence[int]) -> str:
    """What the user is told, the sentence first.

    Args:
        ranks: all that are in the training.
        quiet_s: so long there was no progress.
        left: ranks that are not, any more.
    """
    guilty = stuck(ranks)
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
        stacks = each.stacks.strip() or f"(none could be had: {each.condition()})"
        lines.append(f"--- stacks of rank {each.rank}, host {each.host}, pid {each.pid} ---")
        lines.append(stacks)
    return "\n".join([*lines, ""])


def _sentence(guilty: Sequence[Facts], ranks: Sequence[Facts]) -> str:
    if len(ranks) > 1 and len(guilty) == len(ranks) and not guilty[0].is_odd:
        return "No rank is behind the others: their stacks may tell."
    first = guilty[0]
    who = _names([each.rank for each in guilty])
    number = "The others wait for" if len(ranks) > len(guilty) else "It is"
    return (
        f"{number} {who}: {first.where()}, host {first.host}, pid {first.pid}, {first.condition()}."
    )


def _shown(guilty: Sequence[Facts], ranks: Sequence[Facts]) -> list[Facts]:
    """Some of each: thousands of ranks wait in the same place."""
    others = [each for each in ranks if each not in guilty]
    return [*guilty[:4], *others[:2]]


def _names(numbers: Sequence[int]) -> str:
    many = len(numbers) > 1
    listed = ", ".join(map(str, numbers[:8]))
    more = f" and {len(numbers) - 8} more" if len(numbers) > 8 else ""
    return f"{'ranks' if many else 'rank'} {listed}{more}"

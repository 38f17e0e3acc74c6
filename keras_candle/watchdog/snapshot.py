"""A snapshot of a rank, as its watcher sends it to the root's watcher."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass
class RankSnapshot:
    """The state of a rank: its process, its progress and its stacks.

    Attributes:
        rank: its number.
        host: its node.
        pid: its process ID.
        state: see `keras_candle.watchdog.stacks.state_of`.
        beats: see `keras_candle.watchdog.heartbeat.Heartbeat`, as the next seven.
        epoch: current epoch, from 0.
        step: number of steps done.
        place: where it is.
        collectives: number of collectives begun.
        collective: the last of them.
        in_collective: whether it is in it.
        in_graph: collectives that each step runs in the graph.
        answers: whether its watcher answers.
        stacks: the stacks of all threads.
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
    in_collective: bool
    in_graph: str
    answers: bool = True
    stacks: str = ""

    @property
    def explains_stall(self) -> bool:
        """Whether the state of the process explains the stall."""
        return not self.answers or self.state in _STATES

    def condition(self) -> str:
        """Describe the state of the process as seen from outside."""
        if not self.answers:
            return "nothing is heard of its node"
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

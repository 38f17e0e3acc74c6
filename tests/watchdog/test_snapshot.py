"""Which of the ranks the others wait for, and what the user is told."""

from __future__ import annotations

import subprocess
import sys

import pytest

from keras_candle.watchdog import heartbeat
from keras_candle.watchdog.heartbeat import HeartbeatBoard
from keras_candle.watchdog.rank_watch import request_stacks, state_of
from keras_candle.watchdog.stall_report import RankSnapshot, report, suspects, user_frames


def facts(rank, step=7, place=heartbeat.IN_STEP, collectives=20, state="S", **more):
    given = {"epoch": 1, "collective": "barrier", "in_graph": "", "beats": 90, **more}
    given.setdefault("in_collective", False)
    return RankSnapshot(
        rank=rank,
        host=f"n{rank}",
        pid=100 + rank,
        state=state,
        step=step,
        place=place,
        collectives=collectives,
        **given,
    )


@pytest.mark.parametrize(
    ("ranks", "guilty"),
    [
        ([facts(0), facts(1, place=heartbeat.BETWEEN_STEPS), facts(2)], [1]),
        ([facts(0), facts(1, collectives=19), facts(2, collectives=19)], [1, 2]),
        ([facts(0), facts(1), facts(2, state="T")], [2]),
        ([facts(0, step=6), facts(1, answers=False)], [1]),
        ([facts(0), facts(1, answers=False), facts(2, state="T")], [2]),
        # Whatever the others do: a node that is not heard explains it.
        ([facts(0, state="T"), facts(1, unheard_s=31.0), facts(2, step=6)], [1]),
        ([facts(0, place=heartbeat.IN_CALLBACKS, step=6), facts(1)], [0]),
        (
            [
                facts(0, place=heartbeat.AT_EPOCH_END),
                facts(1, epoch=2, place=heartbeat.BETWEEN_STEPS),
            ],
            [0],
        ),
        ([facts(0), facts(1)], [0, 1]),
        # One that waits in a collective is innocent, wherever it is.
        ([facts(0, in_collective=True), facts(1), facts(2, in_collective=True)], [1]),
        ([facts(0, in_collective=True, step=5), facts(1), facts(2, in_collective=True)], [1]),
        ([facts(0, in_collective=True), facts(1, in_collective=True)], [0, 1]),
    ],
)
def test_suspects_are_the_ranks_for_which_the_rest_waits(ranks, guilty):
    assert [each.rank for each in suspects(ranks).ranks] == guilty


def stacks(*frames, main=("/job/train.py", 30, "<module>")):
    """As faulthandler writes them: a thread of a library's, the main one, one with `frames`."""
    threads = [[(subprocess.__file__, 1, "run")], [main], list(frames)]
    heads = ["Thread 0x1", "Current thread 0x2", "Thread 0x3"]
    return "\n\n".join(
        "\n".join(
            [
                f"{head} (most recent call first):",
                *(f'  File "{path}", line {line} in {name}' for path, line, name in thread),
            ]
        )
        for head, thread in zip(heads, threads, strict=True)
    )


LOADS = ("/job/data.py", 12, "read")
QUEUE = ("/job/data.py", 20, "put")


@pytest.mark.parametrize(
    ("frames", "guilty", "sentence"),
    [
        (
            [[], [LOADS], []],
            [1],
            "rank 1 made no progress in step 8 of the run (epoch 2), at /job/",
        ),
        ([[QUEUE], [LOADS], [QUEUE]], [1], "at /job/data.py, line 12, in read (host n1, pid 101"),
        ([[LOADS], [LOADS], []], [0, 1, 2], "no rank is behind the others"),
        ([[], [LOADS], [LOADS], []], [1, 2], "rank 1 (and 1 more) made no progress"),
        ([[], []], [0, 1], "no rank is behind the others"),
    ],
)
def test_where_positions_are_equal_the_stacks_decide(frames, guilty, sentence):
    ranks = [facts(rank, stacks=stacks(*each)) for rank, each in enumerate(frames)]
    found = suspects(ranks)
    assert [each.rank for each in found.ranks] == guilty
    assert sentence in found.sentence(len(ranks))


def test_a_users_frames_are_neither_pythons_nor_keras_nor_ours():
    text = stacks(
        (subprocess.__file__, 5, "run"),
        LOADS,
        (heartbeat.__file__, 9, "beat"),
        ("<frozen x>", 1, "y"),
    )
    assert user_frames(text) == [
        "/job/train.py, line 30, in <module>",
        "/job/data.py, line 12, in read",
    ]


def test_a_report_names_the_rank_its_step_its_collective_and_its_stacks():
    ranks = [
        facts(0, stacks="in MPI_Allreduce", in_collective=True),
        facts(1, place=heartbeat.IN_CALLBACKS, collectives=19, stacks="in my_callback"),
        *(facts(rank, in_graph="sum optimizer.0", in_collective=True) for rank in range(2, 20)),
    ]
    text = report(ranks, suspects(ranks), 60.2, left=[21, 20])
    first, *others = text.splitlines()
    assert first.startswith("keras_candle: no progress for 60 s. The others wait for rank 1")
    assert text.index("in my_callback") > text.index("--- stacks of rank 1, host n1, pid 101 ---")
    assert (
        "  rank 1: in the callbacks after step 8 of the run (epoch 2); last collective: barrier ("
        in text
    )
    assert "ranks 2, 3, 4, 5, 6, 7, 8, 9 and 10 more: in step 8" in text
    assert "last collective: of step 8, in the graph: sum optimizer.0" in text
    assert "ranks 20, 21: out of the training" in text
    assert len(others) < 20
    assert others[-1].startswith("keras_candle: rank 1 made no progress in the callbacks after")


@pytest.mark.parametrize(
    ("ranks", "sentence"),
    [
        (
            [facts(0), facts(1, unheard_s=31.2)],
            "ank 1 is not heard: host n1 or the network to it is down, since 31 s; last seen in "
            "step 8 of the run (epoch 2)",
        ),
        (
            [facts(0), *(facts(rank, unheard_s=60.0 + rank) for rank in range(1, 12))],
            "anks 1, 2, 3, 4, 5, 6, 7, 8 and 3 more are not heard: hosts n1, n2, n3, n4, n5, n6, "
            "n7, n8 and 3 more or the network to them is down, since 71 s; last seen in step 8",
        ),
    ],
)
def test_a_host_that_is_not_heard(ranks, sentence):
    found = suspects(ranks)
    assert f"r{sentence}" in found.sentence(len(ranks))
    assert f"R{sentence}" in report(ranks, found, 40.0, left=[])


def test_where_no_rank_is_behind_none_is_blamed():
    two, one = [facts(0), facts(1)], [facts(0)]
    assert "No rank is behind the others" in report(two, suspects(two), 5.0, left=[])
    assert "It is rank 0: in step 8" in report(one, suspects(one), 5.0, left=[])


def test_what_a_rank_writes_its_watcher_reads():
    ours = HeartbeatBoard()
    theirs = HeartbeatBoard(ours.descriptor)
    assert theirs.read().beats == 0
    ours.beat(2, 40, heartbeat.IN_EVALUATION)
    ours.begin_collective("x" * 500, ())
    ours.end_collective()
    assert (theirs.read().collectives, theirs.read().in_collective) == (1, False)
    ours.begin_collective("sum of é: float32 (3,)", ())
    ours.add_to_graph("one")
    ours.add_to_graph("one")
    ours.add_to_graph("two")
    seen = theirs.read()
    assert (seen.beats, seen.epoch, seen.step, seen.place) == (1, 2, 40, heartbeat.IN_EVALUATION)
    assert (seen.collectives, seen.collective) == (2, "sum of é: float32 (3,)")
    assert seen.in_collective
    assert seen.in_graph == "one, two"


STANDS = """
import os, signal, sys, threading, time
from keras_candle.watchdog.rank_watch import enable_stacks
def in_another_thread(): time.sleep(100)
threading.Thread(target=in_another_thread, daemon=True).start()
print(enable_stacks(), flush=True)
def here():
    {how}
here()
"""
HOW = {
    "stopped": "os.kill(os.getpid(), signal.SIGSTOP)",
    "waits": "time.sleep(100)",
    "holds the lock": "import ctypes; ctypes.PyDLL(None).sleep(100)",
}


@pytest.mark.parametrize("how", HOW)
def test_the_stacks_of_a_stalled_process(how):
    command = [sys.executable, "-c", STANDS.format(how=HOW[how])]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            descriptor = int(process.stdout.readline())
            while state_of(process.pid) == "R":
                pass
            assert (state_of(process.pid) == "T") == (how == "stopped")
            with open(f"/proc/{process.pid}/fd/{descriptor}", "rb") as file:
                stacks = request_stacks(process.pid, file.fileno())
        finally:
            process.kill()
    assert "in here" in stacks
    assert "in in_another_thread" in stacks
    assert state_of(process.pid) == ""

"""A failure survives its journey through a rank's stderr, and disturbs nothing around it."""

import dataclasses
import os

import pytest

from keras_candle.launch.failure import Failure, FailureReader, FirstOnNode, first_cause
from keras_candle.launcher_messages import RANK, STALL, message

ONE = Failure(1, 2, "node-b", 4711, 100.0, 1, "ValueError: x", 0, "Traceback ...\n", "tail\n")


@pytest.mark.parametrize("size", [1, 2, 7, 100_000])
def test_any_cut_of_the_stream_gives_the_same(size):
    other = dataclasses.replace(ONE, rank=0, time_s=99.0)
    stream = b"be\x1efore\n" + ONE.frame() + b"\r 50%" + other.frame() + b"after"
    reader = FailureReader()
    shown = b"".join(reader.feed(stream[i : i + size]) for i in range(0, len(stream), size))
    assert shown + reader.close() == b"be\x1efore\n\r 50%after"
    assert reader.failures == [ONE, other]
    assert first_cause(reader.failures) == other


def test_bytes_without_a_report_pass_at_once():
    reader = FailureReader()
    for piece in (b"\r 10% ", b"\xff\x00", b"\x1b[K", "änd".encode()):
        assert reader.feed(piece) == piece


def test_a_label_goes_with_its_report():
    assert FailureReader(labelled=True).feed(b"[12] " + ONE.frame() + b"[12] more") == b"[12] more"


def test_a_label_that_comes_before_its_report_waits_for_it():
    reader = FailureReader(labelled=True)
    pieces = [b"[0] begun\n[1] ", ONE.frame(), b"[12] ", b"more"]
    assert [reader.feed(each) for each in pieces] == [b"[0] begun\n", b"", b"", b"[12] more"]


def test_messages_of_supervisors_and_the_watchdog_are_removed():
    reader = FailureReader()
    said = message(RANK, rank=1, state="ended") + b"50%" + message(STALL, text="rank 1 ...")
    assert reader.feed(b"a" + said + b"b") == b"a50%b"
    assert reader.states == [{"rank": 1, "state": "ended"}]
    assert reader.stall == "rank 1 ..."


@pytest.mark.parametrize("broken", [b"\x1ecandle AAAA\x1e\n", b"\x1ecandle " + b"A" * 70_000])
def test_a_broken_report_is_shown_and_not_waited_for(broken):
    reader = FailureReader()
    assert reader.feed(broken) == broken
    assert reader.failures == []


def test_a_long_traceback_keeps_both_ends():
    long = dataclasses.replace(ONE, traceback="first\n" + "x" * 10**6 + "\nlast")
    reader = FailureReader()
    reader.feed(long.frame())
    told = reader.failures[0].traceback
    assert told.startswith("first")
    assert told.endswith("last")
    assert "left out" in told


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({}, "rank 1 (of 2, host node-b) failed: ValueError: x"),
        ({"reason": "", "code": 3}, "rank 1 (of 2, host node-b) exited with code 3"),
        ({"signal": 9}, "rank 1 (of 2, host node-b, pid 4711) was killed by SIGKILL"),
        ({"signal": 63}, "rank 1 (of 2, host node-b, pid 4711) was killed by signal 63"),
    ],
)
def test_the_sentence(change, sentence):
    assert dataclasses.replace(ONE, **change).sentence() == sentence


def test_the_sentence_is_the_last_line():
    assert ONE.text().splitlines()[-1] == f"candle: {ONE.sentence()}"


def test_after_a_nodes_first_failure_the_rest_are_brief():
    long = dataclasses.replace(ONE, reason="r" * 5000, traceback="t" * 5000, output="o" * 5000)
    reader = FailureReader()
    # A clock that is a little behind makes no later failure the cause.
    for failure in (long, *(dataclasses.replace(long, time_s=99.0).brief() for _ in range(3))):
        frame = failure.frame()
        assert reader.feed(frame) == b""
    assert len(frame) < 400
    assert first_cause(reader.failures).traceback == long.traceback


def test_the_first_on_a_node():
    us = os.getpid()
    first, second, other_job = (FirstOnNode(parent) for parent in (us, us, -us))
    assert first.is_first()
    assert not second.is_first()
    assert other_job.is_first()

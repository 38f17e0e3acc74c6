"""Messages between watchers, over a link that is cut for a while."""

from __future__ import annotations

import socket

import pytest

from keras_candle.watchdog import watcher
from keras_candle.watchdog.watcher import Transport


@pytest.fixture
def ends():
    both = [Transport(each) for each in socket.socketpair()]
    yield both
    for each in both:
        each.close()


def test_what_the_peer_does_not_read_yet_is_sent_later(ends, monkeypatch):
    monkeypatch.setattr(watcher, "_SEND_WITHIN_S", 0.01)
    ours, theirs = ends
    sent = [{"stacks": str(number) * 300_000} for number in range(3)]
    for each in sent[:2]:
        ours.send(**each)
    assert ours.is_behind()
    assert ours.open
    received = []
    for each in (*sent[2:], {"left": [1]}):
        ours.send(**each)
    for _ in range(1000):
        received += theirs.received()
        if not ours.is_behind() and len(received) == 4:
            break
    assert received == [*sent, {"left": [1]}]


def test_a_peer_that_has_closed_is_not_unreachable(ends):
    ours, theirs = ends
    theirs.close()
    ours.send(left=[1])
    ours.received()
    assert not ours.open
    assert not ours.is_unreachable
    ours.close()
    ours.send(left=[2])
    assert ours.is_behind()

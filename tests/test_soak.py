"""The soak finds what it is there for: a collective that each rank's own clock decides."""

from __future__ import annotations

import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

from keras_candle import engine as engines
from tests import soak
from tests.rank_pool import RankError

COLLECTIVES = ("allreduce", "gather_objects", "gather_results", "broadcast", "on_root", "agree")
# Those that a long training comes to again and again.
SITES = (
    "capture.CheckpointCapture.take",
    "fit_hooks.CaptureHook.after_epoch",
    "model_state._unlike_root",
    "recorder.PerformanceRecorder.of_epoch",
    "stopping.StopRequests.ask",
)
PACKAGES = ("callback", "performance", "resume")
SMALL = {"batches": 4, "every_steps": 4}


def site_of_caller():
    """The function of these packages that calls a collective; "" for callers elsewhere."""
    frame = sys._getframe(2)
    # Past what only passes a call on.
    while frame.f_code.co_name == "on_root":
        frame = frame.f_back
    path = Path(frame.f_code.co_filename)
    return f"{path.stem}.{frame.f_code.co_qualname}" if path.parent.name in PACKAGES else ""


@contextmanager
def collectives(around):
    """Lets around(site, call) call the collectives of these packages."""
    engine = engines.start()

    def wrapped(name):
        plain = getattr(engine, name)

        def call(*args, **kwargs):
            site = site_of_caller()
            if not site:
                return plain(*args, **kwargs)
            return around(site, lambda: plain(*args, **kwargs))

        return call

    for name in COLLECTIVES:
        setattr(engine, name, wrapped(name))
    try:
        yield
    finally:
        for name in COLLECTIVES:
            delattr(engine, name)


def sites(run):
    counts = Counter()

    def count(site, call):
        counts[site] += 1
        return call()

    with collectives(count):
        soak.train(Path(run), seconds=60, epochs=8, **SMALL)
    return sorted(site for site, count in counts.items() if count > 2)


def train_by_clocks(run, site):
    """A training that leaves a collective out, half of the time, by each rank's own clock."""
    ahead_s = 0.25 * engines.start().rank
    latest = {}

    def by_clock(at, call):
        due = (time.monotonic() + ahead_s) % 0.5 < 0.25
        if due or at != site or site not in latest:
            latest[at] = call()
        return latest[at]

    with collectives(by_clock):
        soak.train(Path(run), seconds=20, stall_timeout_s=8, **SMALL)


def test_these_are_the_collectives_of_a_long_training(ranks, tmp_path):
    assert ranks(2).run(sites, run=str(tmp_path)) == [list(SITES)] * 2


@pytest.mark.parametrize("site", SITES)
def test_no_training_ends_well_whose_collective_depends_on_a_clock(ranks, tmp_path, site):
    with pytest.raises(RankError, match=r"different places|STALL|did not end|the job ended"):
        ranks(2).run(train_by_clocks, run=str(tmp_path), site=site, timeout_s=60)

"""A rank that never comes is noticed by Horovod itself: the stall check that our build mends."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import os, time
import tensorflow as tf
from keras_candle import backend
from keras_candle import engine as engines

engine = engines.start("horovod")
if engine.is_root:
    try:
        backend.current().sum_in_step(engine, [tf.ones(2)], name="stalled")
    except Exception as error:
        print("noticed:", type(error).__name__, flush=True)
    open("over", "w").close()
else:
    end_s = time.monotonic() + 60
    while not os.path.exists("over") and time.monotonic() < end_s:  # alive, but stuck in Python
        time.sleep(0.1)
    if not os.path.exists("over"):
        open("in_vain", "w").close()
"""


def test_a_rank_that_is_stuck_ends_the_wait_of_the_others(tmp_path):
    (tmp_path / "stuck.py").write_text(PROGRAM)
    settings = {
        "HOROVOD_STALL_CHECK_TIME_SECONDS": "2",
        "HOROVOD_STALL_SHUTDOWN_TIME_SECONDS": "5",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    done = subprocess.run(
        [sys.executable, "-m", "keras_candle.launch.cli", "run", "-np", "2", "stuck.py"],
        env={**os.environ, **settings},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert "noticed:" in done.stdout, done.stderr
    assert not (tmp_path / "in_vain").exists()
    assert "candle.sum.stalled" in done.stderr  # Horovod's warning names what it waits for

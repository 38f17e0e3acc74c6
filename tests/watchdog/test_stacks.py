"""A stopped process shows where it was stopped, not where it went afterwards."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time

from keras_candle.watchdog.rank_watch import request_stacks, state_of

CHILD = """
import faulthandler, os, signal, sys, threading, time
from keras_candle.watchdog import rank_watch
faulthandler.register(rank_watch._SIGNAL, file=int(sys.argv[1]), all_threads=True)
for _ in range(6):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
def stand_still():
    os.kill(os.getpid(), signal.SIGSTOP)
def go_on():
    time.sleep(0.2)
for _ in range(10):
    stand_still()
    go_on()
"""


def test_where_a_stopped_process_stood():
    with tempfile.TemporaryFile() as file:
        command = [sys.executable, "-c", CHILD, str(file.fileno())]
        with subprocess.Popen(command, pass_fds=[file.fileno()]) as child:
            try:
                for _ in range(10):
                    while state_of(child.pid) != "T":
                        assert child.poll() is None
                        time.sleep(0.01)
                    told = request_stacks(child.pid, file.fileno())
                    assert "in stand_still" in told
                    assert "in go_on" not in told
                assert child.wait(10) == 0
            finally:
                child.kill()

"""More ranks on one machine than it has cores."""

AGREE = """
import sys
import numpy as np
from keras_candle import engine
own = engine.start("mpi")
total = own.allreduce(np.array([own.rank]))
if own.is_root:
    print(own.size, *total, "tensorflow" in sys.modules)
"""


def test_64_ranks_agree_within_a_minute(candle, tmp_path):
    (tmp_path / "agree.py").write_text(AGREE)
    done = candle("run", "-np", "64", "agree.py", timeout_s=60)
    assert (done.stdout, done.stderr, done.returncode) == ("64 2016 False\n", "", 0)

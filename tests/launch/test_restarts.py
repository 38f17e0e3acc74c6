"""`candle run --max-restarts`: tiny programs that tell of checkpoints as a training does."""

import re

import pytest

from keras_candle.launch.failure import FailureReader
from tests.launch.test_run_signals import CODE, start, wait_for

# A "training" of 10 steps with a checkpoint after each, in a file.
TRAINING = """
from keras_candle.launcher_messages import restarts, notify_checkpoint
from mpi4py import MPI
world = MPI.COMM_WORLD
saved = int(open('saved').read()) if os.path.exists('saved') else 0
for step in range(saved + 1, 11):
    world.barrier()
    FAIL
    if rank == 0 and step > NOT_BEFORE:
        open('saved', 'w').write(str(step))
        notify_checkpoint(step)
if rank == 0:
    print('steps', step, 'restarts', restarts())
"""


def training(script, fail="pass", not_before="0"):
    return script(TRAINING.replace("FAIL", fail).replace("NOT_BEFORE", not_before))


def test_a_rank_that_is_killed_twice(candle, script):
    fail = "if rank == 1 and (step, restarts()) in ((4, 0), (7, 1)): os.kill(os.getpid(), 9)"
    done = candle("run", "-np", "2", "--max-restarts", "3", training(script, fail))
    assert done.returncode == 0
    assert done.stdout == "steps 10 restarts 2\n"
    lines = done.stderr.splitlines()
    assert len(lines) == 4
    assert re.search(r"rank 1 \(of 2, host \S+, pid \d+\) was killed by SIGKILL", lines[0])
    # The root may or may not have come to the step in which the other rank was killed.
    assert re.fullmatch(
        r"candle: started again \(1 of at most 3\) from the checkpoint of step [34]", lines[1]
    )
    assert "was killed by SIGKILL" in lines[2]
    assert re.search(r"\(2 of at most 3\) from the checkpoint of step [67]", lines[3])


@pytest.mark.parametrize(
    ("fail", "most", "started", "why"),
    [
        ("if step == 4: raise ValueError('no row 4')", "5", 1, "had saved anything new"),
        ("if step > 1: sys.exit(3)", "1", 1, r"it was \(--max-restarts\)"),
        ("if step % 3 == 0 and restarts() < step // 3: sys.exit(3)", "2", 2, "it was, 2 times"),
    ],
)
def test_it_gives_up(candle, script, fail, most, started, why):
    done = candle("run", "-np", "1", "--max-restarts", most, training(script, fail))
    assert done.returncode == (1 if "ValueError" in fail else 3)
    assert done.stderr.count("started again (") == started
    assert re.search(f"not started again: .*{why}", done.stderr.splitlines()[-1])


def test_without_any_checkpoint_it_is_tried_once_more(candle, script):
    fail = "if restarts() == 0: sys.exit(3)"
    body = training(script, fail, not_before="100")
    done = candle("run", "-np", "1", "--max-restarts", "2", body)
    assert done.returncode == 0
    assert "no checkpoint was made" in done.stderr
    done = candle("run", "-np", "1", "--max-restarts", "2", script("sys.exit(3)"))
    assert done.returncode == 3
    assert done.stderr.count("started again (") == 1


def test_a_program_that_saved_and_wants_to_be_run_again_is_left_to_the_scheduler(candle, script):
    done = candle("run", "-np", "2", "--max-restarts", "2", training(script, "sys.exit(75)"))
    assert done.returncode == 75
    assert "started again" not in done.stderr


def test_a_signal_to_the_job_ends_it(script, tmp_path):
    job = start(tmp_path, "-np", "1", "--max-restarts", "2", script(CODE.replace("EXIT", "7")))
    wait_for(tmp_path / "up0")
    job.terminate()
    _, told = job.communicate(timeout=60)
    assert job.returncode == 7
    assert b"started again" not in told


def test_a_negative_number(candle, script):
    done = candle("run", "-np", "1", "--max-restarts", "-1", script("pass"))
    assert done.returncode == 2
    assert "--max-restarts got -1" in done.stderr


@pytest.mark.parametrize("patience", ["-1", "nan"])
def test_patience_that_is_none(candle, script, patience):
    options = ("--max-restarts", "1", "--restart-patience", patience)
    done = candle("run", "-np", "1", *options, script("pass"))
    assert done.returncode == 2
    assert f"--restart-patience got {patience}, expected 0 seconds or more" in done.stderr


def test_messages_that_come_in_pieces_are_taken_out():
    reader = FailureReader()
    stream = b"loss 0.3\x1ecandle saved 12\x1e\nstep 3 \x1ecandle saved 13\x1e\nend"
    shown = b"".join(reader.feed(stream[i : i + 1]) for i in range(len(stream))) + reader.close()
    assert shown == b"loss 0.3step 3 end"
    assert reader.saved_steps == [12, 13]

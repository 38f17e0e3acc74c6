"""A rank that leaves the job before the others have done with it, and one that only ends first."""

import os
import re
import signal

import pytest

from keras_candle.launch.rank_states import RankStates
from keras_candle.launcher_messages import LEFT_S

START = "from keras_candle import engine as engines\nengine = engines.start('mpi')\n"
TOGETHER = "engine.barrier()\nif rank == LEAVES: HOW\nengine.allreduce(1.0)\n"
APART = "engine.barrier()\nif rank == LEAVES: HOW\ntime.sleep(1.5)\nprint('done', flush=True)\n"
HOW = ("os._exit(0)", "sys.exit(0)")


def program(body, leaves=1, how="os._exit(0)"):
    return body.replace("LEAVES", str(leaves)).replace("HOW", how)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("leaves", [0, 1])
def test_a_rank_that_others_wait_for_is_named_and_the_job_fails(candle, script, leaves, how):
    done = candle(
        "run", "-np", "3", script(START + program(TOGETHER, leaves, how)), **{LEFT_S: "0.6"}
    )
    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    assert re.match(
        rf"candle: rank {leaves} \(of 3, host \S+\) has left the job: its prog", sentence
    )
    assert re.search(r"while rank \d waits for it: allreduce sum of float64 \(\)", sentence)
    assert "at program.py, line 7, in <module>. All ranks" in sentence


def test_a_rank_that_asks_to_run_again_alone_is_named(candle, script):
    done = candle(
        "run", "-np", "2", script(START + program(TOGETHER, 1, "sys.exit(75)")), **{LEFT_S: "0.6"}
    )
    assert done.returncode == 1
    assert "rank 1 (of 2" in done.stderr
    assert "its program ended with code 75 while rank 0 waits for it" in done.stderr


def test_how_long_is_waited_is_a_number(candle, script):
    done = candle("run", "-np", "2", script(""), **{LEFT_S: "soon"})
    assert done.returncode == 2
    assert "KERAS_CANDLE_LEFT_S='soon', expected a number of seconds above 0" in done.stderr


def test_a_rank_that_never_starts_the_engine_is_named_too(candle, script):
    body = "if rank == 0: sys.exit(0)\n" + START
    done = candle("run", "-np", "2", script(body), **{LEFT_S: "0.6"})
    assert done.returncode == 1
    assert "rank 0 (of 2, host" in done.stderr
    assert "rank 1 waits for it: start of the mpi engine" in done.stderr


def test_the_roots_action_that_never_comes(candle, script):
    body = "if rank == 0: sys.exit(0)\nengine.after_root(print, 'writing x')\n"
    done = candle("run", "-np", "2", script(START + body), **{LEFT_S: "0.6"})
    assert done.returncode == 1
    assert "rank 1 waits for it: writing x of the root, at program.py, line 6" in done.stderr


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("end", HOW)
def test_a_rank_that_ends_first_ends_no_rank_that_does_not_wait_for_it(candle, script, how, end):
    body = START + program(APART, 1, how) + end
    done = candle("run", "-np", "2", script(body), **{LEFT_S: "0.4"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_a_group_that_has_ended_is_not_waited_for_by_another(candle, script):
    body = START + (
        "group = engine.split(rank // 2)\n"
        "if rank < 2: sys.exit(0)\n"
        "if rank == 2: time.sleep(2)\n"
        "print(group.allreduce(1.0), flush=True)\n"
    )
    done = candle("run", "-np", "4", "--all-output", script(body), **{LEFT_S: "0.4"})
    assert done.returncode == 0
    assert done.stdout.count("2.0") == 2


def test_who_waits_for_a_rank_that_is_at_work_is_left_alone(candle, script):
    body = START + "if rank == 0: time.sleep(2)\nengine.barrier()\nprint('done')\n"
    done = candle("run", "-np", "2", script(body), **{LEFT_S: "0.4"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def state(rank, state, **more):
    return {"rank": rank, "state": state, "host": "n1", "code": 0, **more}


def test_the_launcher_judges_only_what_lasts():
    now = [0.0]
    states = RankStates(3, 2.0, lambda: now[0])
    states.update(state(0, "waits", what="barrier", site="", ranks=[]))
    now[0] = 100.0
    assert states.abandoned() == ""
    states.update(state(2, "ended"))
    now[0] = 101.0
    assert states.abandoned() == ""
    states.update(state(0, "goes on"))
    now[0] = 200.0
    assert states.abandoned() == ""
    states.update(state(0, "waits", what="barrier", site="x.py", ranks=[0, 1]))
    now[0] = 300.0
    assert states.abandoned() == ""
    states.update(state(0, "waits", what="barrier", site="x.py", ranks=[1, 2]))
    now[0] = 302.0
    assert states.abandoned().startswith("rank 2 (of 3, host n1) has left the job")
    states.update(state(0, "gone"))
    assert states.abandoned() == ""


def test_a_failure_in_a_step_of_horovods_after_a_rank_has_left():
    states = RankStates(2, 2.0)
    lost = "Horovod has been shut down. This was caused by"
    assert states.cause_of(lost, 0) == ""
    states.update(state(1, "ended"))
    assert states.cause_of(lost, 0).startswith("rank 1 (of 2, host n1) has left the job")
    assert states.cause_of("ValueError: x", 0) == ""


LEAVE_CHILD = "if rank == 0:\n    PID = START\n    open('child', 'w').write(str(PID))\n"
POPEN = "__import__('subprocess').Popen(['sleep', '60']).pid"


@pytest.fixture
def left_running(tmp_path):
    """Ends the process that a script left, and says that it did run."""

    def end() -> bool:
        child = int((tmp_path / "child").read_text())
        os.kill(child, signal.SIGKILL)
        return True

    return end


@pytest.mark.parametrize("options", [["-np", "1"], ["-np", "2"], ["-np", "2", "--all-output"]])
def test_what_a_script_leaves_running_is_not_waited_for(candle, script, left_running, options):
    body = LEAVE_CHILD.replace("START", POPEN) + "print('x' * 3_000_000)\n"
    done = candle("run", *options, script(body), timeout_s=30)
    assert left_running()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("x") == 3_000_000 * (2 if "--all-output" in options else 1)


def test_a_forked_process_that_outlives_the_script(candle, script, left_running):
    body = LEAVE_CHILD.replace("START", "os.fork() or time.sleep(60)")
    done = candle("run", "-np", "2", script(body + "print('end', rank)\n"), timeout_s=30)
    assert left_running()
    assert (done.returncode, done.stdout) == (0, "end 0\n")


def test_a_forked_process_is_no_rank(candle, script):
    body = "if os.fork() == 0: raise ValueError('of the child')\nos.wait()\ntime.sleep(0.3)\n"
    done = candle("run", "-np", "2", script(body + "print('end')\n"))
    assert (done.returncode, done.stdout) == (0, "end\n")
    assert done.stderr.count("ValueError: of the child") == 1
    assert "candle:" not in done.stderr

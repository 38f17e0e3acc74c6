"""Signals and terminals: what the shell does to `candle run` reaches the ranks, once."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from keras_candle.cluster.mpi_library import find_mpiexec
from keras_candle.launcher_messages import SAME_SIGNAL_S, TERMINALS
from tests.launch.conftest import CANDLE

CODE = """
heard = []
signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
open(f"up{rank}", "w").close()
while not heard: time.sleep(0.02)
time.sleep(0.6 * rank)
open(f"saved{rank}-{len(heard)}", "w").close()
sys.exit(EXIT)
"""


def start(tmp_path: Path, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*CANDLE, "run", *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_for(*paths: Path) -> None:
    deadline = time.monotonic() + 20
    while not all(path.exists() for path in paths):
        assert time.monotonic() < deadline, f"{paths} did not appear"
        time.sleep(0.02)


@pytest.mark.parametrize("mpi", ["", "from mpi4py import MPI\n"])
@pytest.mark.parametrize("code", [75, 7])
def test_every_rank_finishes_its_own_handler(script, tmp_path, mpi, code):
    job = start(tmp_path, "-np", "2", script(mpi + CODE.replace("EXIT", str(code))))
    wait_for(tmp_path / "up0", tmp_path / "up1")
    job.terminate()
    job.communicate(timeout=60)
    assert job.returncode == code
    assert {path.name for path in tmp_path.glob("saved*")} == {"saved0-1", "saved1-1"}


def test_a_rank_that_saved_and_asks_to_run_again_ends_no_other(candle, script, tmp_path):
    program = script("time.sleep(0.5 * rank)\nopen(f'saved{rank}', 'w').close()\nsys.exit(75)\n")
    assert candle("run", "-np", "2", program).returncode == 75
    assert (tmp_path / "saved1").exists()


def test_ranks_without_a_handler_end_at_once(script, tmp_path):
    job = start(tmp_path, "-np", "2", script("open(f'up{rank}', 'w').close()\ntime.sleep(60)\n"))
    wait_for(tmp_path / "up0", tmp_path / "up1")
    job.terminate()
    _, stderr = job.communicate(timeout=60)
    assert (job.returncode, stderr) == (143, b"candle: stopped by SIGTERM\n")


def test_asked_twice_the_job_ends_although_a_rank_refuses(script, tmp_path):
    body = "signal.signal(signal.SIGTERM, lambda *_: open(f'heard{rank}', 'w').close())\n"
    body += "open(f'up{rank}', 'w').close()\nfor _ in range(600): time.sleep(0.1)\n"
    job = start(tmp_path, "-np", "2", script(body))
    wait_for(tmp_path / "up0", tmp_path / "up1")
    job.terminate()
    wait_for(tmp_path / "heard0", tmp_path / "heard1")
    time.sleep(SAME_SIGNAL_S)
    job.terminate()
    job.communicate(timeout=60)
    assert job.returncode == 143


def test_the_same_signal_twice_at_once_is_one(script, tmp_path):
    job = start(tmp_path, "-np", "2", script(CODE.replace("EXIT", "75")))
    wait_for(tmp_path / "up0", tmp_path / "up1")
    job.terminate()
    time.sleep(0.1)
    job.terminate()
    _, stderr = job.communicate(timeout=60)
    assert job.returncode == 75
    assert {path.name for path in tmp_path.glob("saved*")} == {"saved0-1", "saved1-1"}
    assert stderr == b"candle: stopped by SIGTERM; saved, to be run again (75)\n"


def test_a_sigterm_after_sigusr1_is_passed_on(script, tmp_path):
    body = "heard = []\nfor each in (signal.SIGUSR1, signal.SIGTERM):\n"
    body += "    signal.signal(each, lambda number, _: heard.append(number))\n"
    body += "open(f'up{rank}', 'w').close()\nwhile not heard: time.sleep(0.02)\n"
    body += "open(f'heard{rank}', 'w').close()\nwhile len(heard) < 2: time.sleep(0.02)\n"
    job = start(tmp_path, "-np", "2", script(body + "sys.exit(75)\n"))
    wait_for(tmp_path / "up0", tmp_path / "up1")
    job.send_signal(signal.SIGUSR1)
    wait_for(tmp_path / "heard0", tmp_path / "heard1")
    job.terminate()
    job.communicate(timeout=60)
    assert job.returncode == 75


# A program that may resume, at a place where it has nothing to save.
BEFORE = "open(f'up{rank}', 'w').close()\ntime.sleep(60)\ncandle.CandleCallback\n"
FOUND = "candle: {} found no training under way: nothing is left to save, to be run again (75)\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("mpi", ["", "from mpi4py import MPI\n"])
def test_a_stop_signal_before_the_training_asks_to_run_again(script, tmp_path, number, mpi):
    job = start(tmp_path, "-np", "2", script(mpi + BEFORE))
    wait_for(tmp_path / "up0", tmp_path / "up1")
    job.send_signal(number)
    _, stderr = job.communicate(timeout=60)
    assert (job.returncode, stderr.decode()) == (75, FOUND.format(number.name))


@pytest.mark.parametrize("other", ["time.sleep(60)", "from mpi4py import MPI"])
def test_a_signal_to_one_rank_before_the_training_ends_the_job(candle, script, other):
    body = f"if rank == 0: os.kill(os.getpid(), signal.SIGTERM)\n{other}\n'CandleCallback'\n"
    done = candle("run", "-np", "2", script(body))
    assert (done.returncode, done.stderr) == (75, FOUND.format("SIGTERM"))


def test_ctrl_c_before_the_training_is_no_request_to_run_again(script, tmp_path):
    job = start(tmp_path, "-np", "2", script(BEFORE))
    wait_for(tmp_path / "up0", tmp_path / "up1")
    job.send_signal(signal.SIGINT)
    job.communicate(timeout=60)
    assert job.returncode == 130


@pytest.mark.parametrize(
    ("training", "code"),
    [
        ("begin(can_resume=True)", 143),
        ("begin(can_resume=False); work.end()", 143),
        ("begin(can_resume=True); work.end()", 75),
    ],
)
def test_a_kill_in_a_training_or_after_one_that_nothing_saves(candle, script, training, code):
    body = f"from keras_candle.launcher_messages import work\nwork.{training}\n"
    body += "os.kill(os.getpid(), signal.SIGTERM)\n'CandleCallback'\n"
    assert candle("run", "-np", "1", script(body)).returncode == code


def test_a_signal_before_any_rank_has_begun(script, tmp_path, monkeypatch):
    begin = "import os, time\nif 'PMI_RANK' in os.environ:\n"
    begin += f"    open({str(tmp_path)!r} + '/up' + os.environ['PMI_RANK'], 'w').close()\n"
    (tmp_path / "sitecustomize.py").write_text(begin + "    time.sleep(60)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    job = start(tmp_path, "-np", "2", script(""))
    wait_for(tmp_path / "up0", tmp_path / "up1")
    job.terminate()
    _, stderr = job.communicate(timeout=60)
    assert job.returncode == 75
    assert stderr.decode().endswith(
        "candle: SIGTERM came before the program began: nothing is left to save, to be run again "
        "(75)\n"
    )


@pytest.mark.parametrize("deaf_s", [0.6, 60])
def test_a_signal_to_which_starting_ranks_are_deaf(script, tmp_path, monkeypatch, deaf_s):
    begin = "import os, signal, time\nif 'PMI_RANK' in os.environ:\n"
    begin += "    signal.signal(signal.SIGUSR1, signal.SIG_IGN)\n"
    begin += f"    open({str(tmp_path)!r} + '/up' + os.environ['PMI_RANK'], 'w').close()\n"
    begin += f"    time.sleep({deaf_s})\n    signal.signal(signal.SIGUSR1, signal.SIG_DFL)\n"
    (tmp_path / "sitecustomize.py").write_text(begin)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    program = script("# CandleCallback\ntime.sleep(60)\n")
    job = start(tmp_path, "-np", "2", program)
    wait_for(tmp_path / "up0", tmp_path / "up1")
    job.send_signal(signal.SIGUSR1)
    _, stderr = job.communicate(timeout=40)
    assert job.returncode == 75, stderr


def test_without_a_launcher_of_ours_root_alone_reports(script, tmp_path):
    command = [str(find_mpiexec()), "-n", "2", sys.executable, "-m", "keras_candle.launch.rank"]
    done = subprocess.run(
        [*command, script("sys.exit(75)\n")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 75
    assert done.stderr.count("candle: ") == 1
    assert "candle: saved, to be run again (75)\n" in done.stderr
    assert "last output" not in done.stderr


# A training that has saved leaves by os._exit; what the program holds back is written before.
LEAVES = """
import atexit, threading
from mpi4py import MPI
from keras_candle.launcher_messages import work
begun = open(f'begun{rank}', 'w')
begun.write('whole')
atexit.register(lambda: open(f'exit{rank}', 'w').write('whole'))
def late():
    time.sleep(0.3)
    open(f'thread{rank}', 'w').write('whole')
threading.Thread(target=late).start()
class Heavy:
    def __del__(self): time.sleep(60)
heavy = Heavy()
work.begin(can_resume=True)
work.end(to_run_again=True)
sys.exit(75)
"""


def test_an_end_after_a_save_loses_nothing(candle, script, tmp_path):
    done = candle("run", "-np", "2", script(LEAVES))
    assert (done.returncode, done.stderr) == (75, "candle: saved, to be run again (75)\n")
    for name in ("begun", "exit", "thread"):
        for rank in (0, 1):
            assert (tmp_path / f"{name}{rank}").read_text() == "whole"


def test_no_rank_outlives_a_launcher_killed_by_hand(script, tmp_path):
    body = "os.symlink(f'/proc/{os.getpid()}', f'up{rank}')\ntime.sleep(60)\n"
    job = start(tmp_path, "-np", "2", script(body))
    ranks = [tmp_path / "up0", tmp_path / "up1"]
    wait_for(*ranks)
    job.kill()
    job.communicate(timeout=60)
    deadline = time.monotonic() + 20
    while any(rank.exists() for rank in ranks):  # a link into /proc ends with its process
        assert time.monotonic() < deadline
        time.sleep(0.02)


IN_TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"


def in_terminal(command: list[str], tmp_path: Path, keys: bytes = b"") -> tuple[int, bytes]:
    shell = subprocess.Popen(
        [sys.executable, "-c", IN_TERMINAL, *command],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
    )
    seen = b""
    if keys:
        while b"press" not in seen:
            piece = shell.stdout.read(4096)
            assert piece, seen
            seen += piece
        shell.stdin.write(keys)
    out, _ = shell.communicate(timeout=60)
    return shell.returncode, seen + out


def test_a_live_bar_stays_live_at_a_terminal(script, tmp_path):
    body = "if rank == 0: print(sys.stdout.isatty(), sys.stderr.isatty(), sys.stdin is not None)\n"
    code, seen = in_terminal([*CANDLE, "run", "-np", "2", script(body)], tmp_path)
    assert (code, seen.strip()) == (0, b"True True True")


def test_a_terminal_is_roots_to_read(script, tmp_path):
    body = "if rank == 0: print('got', input('press '), sys.stdin.isatty())\n"
    code, seen = in_terminal([*CANDLE, "run", "-np", "2", script(body)], tmp_path, keys=b"a word\n")
    assert (code, b"got a word True" in seen) == (0, True)


def test_no_terminal_no_live_bar(candle, script):
    body = f"print(sys.stdout.isatty(), os.environ[{TERMINALS!r}] == '')\n"
    assert candle("run", "-np", "2", script(body)).stdout == "False True\n"


def test_control_c_reaches_every_rank_once(script, tmp_path):
    body = "heard = []\nsignal.signal(signal.SIGINT, lambda *_: heard.append(1))\n"
    body += "time.sleep(0.3)\nif rank == 0: print('press', flush=True)\n"
    body += "while not heard: time.sleep(0.02)\n"
    body += "time.sleep(0.5)\nopen(f'heard{rank}-{len(heard)}', 'w').close()\n"
    code, _ = in_terminal([*CANDLE, "run", "-np", "2", script(body)], tmp_path, keys=b"\x03")
    assert code == 0
    assert {path.name for path in tmp_path.glob("heard*")} == {"heard0-1", "heard1-1"}


def test_control_c_while_root_reads_the_terminal(script, tmp_path):
    body = "if rank == 0:\n    print('press', flush=True)\n    input()\nelse: time.sleep(60)\n"
    code, seen = in_terminal([*CANDLE, "run", "-np", "2", script(body)], tmp_path, keys=b"\x03")
    assert code == 130
    assert seen.strip().endswith(b"candle: stopped by SIGINT")


def test_a_signal_while_a_rank_still_starts(script, tmp_path, monkeypatch):
    begin = "import os, signal, time\nif os.environ.get('PMI_RANK') == '1':\n"
    begin += "    signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
    begin += f"    open({str(tmp_path / 'up1')!r}, 'w').close()\n    time.sleep(60)\n"
    (tmp_path / "sitecustomize.py").write_text(begin)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    job = start(tmp_path, "-np", "2", script("open('up0', 'w').close()\ntime.sleep(60)\n"))
    wait_for(tmp_path / "up0", tmp_path / "up1")
    job.send_signal(signal.SIGINT)
    _, stderr = job.communicate(timeout=60)
    assert job.returncode == 130
    assert stderr.decode().endswith("candle: stopped by SIGINT\n")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_signal_that_ends_the_job_is_the_cause_and_no_rank(script, tmp_path, number):
    job = start(tmp_path, "-np", "2", script("open(f'up{rank}', 'w').close()\ntime.sleep(60)\n"))
    wait_for(tmp_path / "up0", tmp_path / "up1")
    job.send_signal(number)
    _, stderr = job.communicate(timeout=60)
    assert job.returncode == 128 + number
    assert stderr.decode() == f"candle: stopped by {number.name}\n"


def test_signal_numbers_are_the_shells(script, tmp_path):
    job = start(tmp_path, "-np", "2", script("open(f'up{rank}', 'w').close()\ntime.sleep(60)\n"))
    wait_for(tmp_path / "up0", tmp_path / "up1")
    job.send_signal(signal.SIGINT)
    _, stderr = job.communicate(timeout=60)
    assert job.returncode == 130
    assert b"KeyboardInterrupt" in stderr
    assert stderr.splitlines()[-1] == b"candle: stopped by SIGINT"

"""Signals and terminals: what the shell does to `candle run` reaches the ranks, once."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from keras_candle.launcher_messages import TERMINALS
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
    job.terminate()
    job.communicate(timeout=60)
    assert job.returncode == 143


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

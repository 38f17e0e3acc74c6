"""Submitted jobs on a real Slurm: their states, output and end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from keras_candle.cluster.job_folder import JOBS, JobFolder
from keras_candle.launch.cancel import cancel
from keras_candle.launch.logs import Outputs, all_statuses, find_job, follow
from tests.cluster.slurm import Slurm, until

PROGRAM = """\
import os, sys, time
print("element", os.environ.get("KERAS_CANDLE_ELEMENT"), flush=True)
if os.environ.get("KERAS_CANDLE_ELEMENT") == "4/6":
    sys.exit(3)
time.sleep(float(sys.argv[1]))
"""


class Site:
    """A working directory beside a Slurm."""

    def __init__(self, slurm: Slurm, folder: Path) -> None:
        self.slurm, self.folder = slurm, folder

    def candle(self, *arguments: str, check: bool = True) -> str:
        return self.slurm.call("candle", *arguments, cwd=self.folder, check=check)

    def submit(self, name: str, *arguments: str) -> JobFolder:
        one = ("--nodes", "1", "--ranks-per-node", "1")
        self.candle("submit", "--scheduler", "slurm", "--name", name, *one, *arguments)
        return JobFolder(self.folder / JOBS / name)

    def states(self, name: str) -> list[str]:
        return [each.state.name for each in all_statuses(find_job(name), ask_every_s=0.2)]

    def wait(self, name: str, *states: str) -> None:
        until(lambda: sorted(self.states(name)) == sorted(states), 60, lambda: self.log(name))

    def log(self, name: str) -> str:
        return f"{self.states(name)}: {self.candle('logs', name, check=False)}"


@pytest.fixture
def site(slurm: Slurm, tmp_path: Path, monkeypatch) -> Iterator[Site]:
    slurm.environment["KERAS_CANDLE_CACHE"] = str(tmp_path / "cache")
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "program.py").write_text(PROGRAM)
    yield Site(slurm, tmp_path)
    slurm.call("scancel", "--quiet", f"--user={os.getuid()}")
    slurm.wait_for_nodes()


def test_of_an_array_of_six_with_one_failing_five_complete_and_one_fails(site: Site) -> None:
    site.submit("sweep", "--array", "6", "program.py", "0")
    site.wait("sweep", *["completed"] * 5, "failed")
    assert "5 completed, 1 failed" in site.candle("status")
    in_full = site.candle("status", "sweep").splitlines()
    assert ["4", "failed", "exit", "code", "3"] in [line.split() for line in in_full]
    assert "element 2/6" in site.candle("logs", "sweep", "--element", "2")
    assert "==> output-5.log <==\nelement 5/6\n" in site.candle("logs", "sweep")
    assert "has ended already: 5 completed, 1 failed" in site.candle("cancel", "sweep")


def test_a_job_is_cancelled_and_what_waits_ends_before_its_start(site: Site) -> None:
    job = site.submit("long", "--array", "2%1", "program.py", "100")
    site.wait("long", "running", "queued")
    until(lambda: job.attempts(0), 30, lambda: site.log("long"))
    assert cancel(find_job("long"), now=False, within_s=60, ask_every_s=0.2) == 0
    assert site.states("long") == ["cancelled", "cancelled"]
    assert [len(job.attempts(element)) for element in range(2)] == [1, 0]


def test_a_job_that_is_cancelled_now_is_not_waited_for(site: Site) -> None:
    job = site.submit("long", "program.py", "100")
    site.wait("long", "running")
    site.candle("cancel", "--now", "long")
    site.wait("long", "cancelled")
    assert job.is_cancelled()


def test_logs_follow_a_job_to_its_end(site: Site, capfdbinary) -> None:
    job = site.submit("short", "program.py", "1")
    follow(find_job("short"), Outputs([job.output()], None), poll_s=0.1, ask_every_s=0.2)
    assert capfdbinary.readouterr().out == b"element None\n"
    assert site.states("short") == ["completed"]


@pytest.mark.parametrize("command", ["status", "logs", "cancel"])
def test_a_name_that_is_unknown_is_named_with_its_neighbour(site: Site, command: str) -> None:
    (site.folder / JOBS / "train").mkdir(parents=True)
    (site.folder / JOBS / "train" / "job.sh").touch()
    answer = site.candle(command, "trian", check=False)
    assert "'trian' is neither a job in" in answer
    assert "(did you mean train?)" in answer

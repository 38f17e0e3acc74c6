"""Submitted jobs on a real Slurm: their states, output and end."""

from __future__ import annotations

import pytest

from keras_candle.cluster.job_folder import JOBS
from keras_candle.launch.cancel import cancel
from keras_candle.launch.logs import Outputs, all_statuses, find_job, follow
from tests.cluster.site import Site
from tests.cluster.slurm import until

PROGRAM = """\
import os, sys, time
print("element", os.environ.get("KERAS_CANDLE_ELEMENT"), flush=True)
if os.environ.get("KERAS_CANDLE_ELEMENT") == "4/6":
    sys.exit(3)
time.sleep(1.5 if os.environ.get("KERAS_CANDLE_ELEMENT") == "0/3" else float(sys.argv[1]))
"""


ONE = ("--nodes", "1", "--ranks-per-node", "1")


@pytest.fixture(autouse=True)
def _program(site: Site) -> None:
    (site.folder / "program.py").write_text(PROGRAM)


def test_of_an_array_of_six_with_one_failing_five_complete_and_one_fails(site: Site) -> None:
    site.submit("sweep", *ONE, "--array", "6", "program.py", "0")
    site.wait("sweep", *["completed"] * 5, "failed")
    assert "5 completed, 1 failed" in site.candle("status")
    in_full = site.candle("status", "sweep").splitlines()
    assert ["4", "failed", "exit", "code", "3"] in [line.split() for line in in_full]
    assert "element 2/6" in site.candle("logs", "sweep", "--element", "2")
    assert "==> output-5.log <==\nelement 5/6\n" in site.candle("logs", "sweep")
    assert "has ended already: 5 completed, 1 failed" in site.candle("cancel", "sweep")


def test_a_job_is_cancelled_and_what_waits_ends_before_its_start(site: Site) -> None:
    job = site.submit("long", *ONE, "--array", "2%1", "program.py", "100")
    site.wait("long", "running", "queued")
    until(lambda: job.attempts(0), 30, lambda: site.log("long"))
    assert cancel(find_job("long"), now=False, within_s=60, ask_every_s=0.2) == 0
    assert site.states("long") == ["cancelled", "cancelled"]
    assert [len(job.attempts(element)) for element in range(2)] == [1, 0]


def test_an_element_that_has_just_ended_hinders_no_other(site: Site) -> None:
    job = site.submit("long", *ONE, "--array", "3", "program.py", "100")
    until(lambda: all(map(job.attempts, range(3))), 60, lambda: site.log("long"))
    all_statuses(find_job("long"), ask_every_s=0)
    site.slurm.wait(f"{job.facts()['id']}_0", "COMPLETED")
    # The kept answer still has it as running; scancel fails for what has ended.
    assert cancel(find_job("long"), now=False, within_s=60, ask_every_s=5) == 0
    assert site.states("long") == ["completed", "cancelled", "cancelled"]


def test_a_job_that_is_cancelled_now_is_not_waited_for(site: Site) -> None:
    job = site.submit("long", *ONE, "program.py", "100")
    site.wait("long", "running")
    site.candle("cancel", "--now", "long")
    site.wait("long", "cancelled")
    assert job.is_cancelled()


def test_logs_follow_a_job_to_its_end(site: Site, capfdbinary) -> None:
    job = site.submit("short", *ONE, "program.py", "1")
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


@pytest.mark.parametrize("start", [["alone.py"], ["-m", "keras_candle.launch.rank", "alone.py"]])
def test_tasks_that_srun_leaves_alone_are_refused_before_anything_is_imported(
    site: Site, start: list[str]
) -> None:
    (site.folder / "alone.py").write_text(
        "import keras_candle as candle\nimport sys\n"
        "print('went on with', 'tensorflow' in sys.modules, candle.size())\n"
    )
    answer = site.slurm.call(
        "srun", "-n2", "--mpi=none", "python", *start, cwd=site.folder, check=False
    )
    assert "--mpi=pmi2" in answer
    assert "went on" not in answer

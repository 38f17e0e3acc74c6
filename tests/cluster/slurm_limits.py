"""Trainings that meet the limits of a real Slurm; they take minutes: make slurm-limits."""

from __future__ import annotations

import pytest

from tests.cluster.site import Site, Training

pytestmark = pytest.mark.timeout(600)


def restarted(training: Training, number: str) -> None:
    """Let the job that was stopped start again, and run to its end."""
    training.slurm.start_again(number, timeout_s=300)
    training.slow.unlink()
    training.site.wait("train", "completed")
    assert training.slurm.job(number)["Restarts"] == "1"


@pytest.mark.parametrize(
    ("options", "walltime"),
    [
        (("--walltime", "00:02:00"), "auto"),
        # Slurm may send it up to 60 s early.
        (("--walltime", "00:03:00", "--directive=--signal=B:USR1@60"), ""),
    ],
    ids=["walltime", "signal"],
)
def test_the_limit_of_its_time_stops_a_training_and_it_goes_on(
    site: Site, ranks, options, walltime
) -> None:
    training = Training(site, 2, 1)
    training.slow.write_text("3")
    job = training.submit(*options, walltime=walltime)
    training.wait_for_steps(1)
    restarted(training, job.facts()["id"])
    training.check_equals(ranks)


def test_a_lost_node_requeues_a_training_which_goes_on(site: Site, ranks) -> None:
    training = Training(site, 2, 1)
    training.slow.write_text("1")
    job = training.submit()
    training.wait_for_steps()
    site.slurm.kill_node("n2")
    site.slurm.wait(job.facts()["id"], "PENDING", timeout_s=120)
    site.slurm.start_node("n2")
    print(job.attempts())
    restarted(training, job.facts()["id"])
    training.check_equals(ranks, may_repeat_steps=True)  # it may be killed


def test_code_75_reaches_slurm_at_every_stop(site: Site) -> None:
    training, codes = Training(site, 2, 1), []
    training.slow.write_text("0.1")
    for _ in range(20):
        job = training.submit("--requeue-by", "exit-code")
        training.wait_for_steps(1)
        site.slurm.call("scancel", "--batch", "--signal=USR1", job.facts()["id"])
        codes.append(site.slurm.wait(job.facts()["id"], "FAILED", "COMPLETED")["ExitCode"])
    assert codes == ["75:0"] * 20

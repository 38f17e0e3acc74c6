"""Trainings on the nodes of a real Slurm end as one that nothing stops."""

from __future__ import annotations

import os

import numpy as np

from keras_candle.launch.cancel import cancel
from keras_candle.launch.logs import find_job
from tests.cluster.site import Training
from tests.cluster.training import STEPS, train


def train_alone(folder: str) -> list[np.ndarray]:
    return train(f"{folder}/{os.environ['PMI_RANK']}/run")


def test_two_nodes_with_two_ranks_each_train_as_one_process(site, ranks, tmp_path) -> None:
    training = Training(site, 2, 2)
    training.submit()
    site.wait("train", "completed")
    alone = ranks(2).run(train_alone, engine="single", folder=str(tmp_path / "alone"))[0]
    for ours, reference in zip(training.weights(), alone, strict=True):
        np.testing.assert_allclose(ours, reference, atol=1e-6)
    assert training.steps() == list(range(1, STEPS + 1))


def test_a_training_that_is_stopped_in_every_way_ends_as_one_that_is_not(site, ranks) -> None:
    training, slurm = Training(site, 2, 1), site.slurm
    training.slow.write_text("0.3")
    job = training.submit()
    number = str(job.facts()["id"])
    training.wait_for_steps()

    slurm.call("srun", "--partition=urgent", "-N2", "-n2", "--exclusive", "true")
    slurm.start_again(number)
    training.wait_for_steps()

    # As --signal=B:USR1@N before the limit.
    slurm.call("scancel", "--batch", "--signal=USR1", number)
    slurm.start_again(number)
    training.wait_for_steps()

    assert cancel(find_job("train"), now=False, within_s=120, ask_every_s=0.2) == 0
    assert site.states("train") == ["cancelled"]
    assert slurm.job(number)["Restarts"] == "2"
    saved = [each.saved_steps[-1] for each in job.attempts()]
    # Nothing is lost: no step was taken twice.
    assert training.steps() == list(range(1, saved[-1] + 1))

    training.slow.unlink()
    training.submit()
    site.wait("train", "completed")
    training.check_equals(ranks)

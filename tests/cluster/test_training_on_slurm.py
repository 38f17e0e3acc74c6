"""Trainings on the nodes of a real Slurm end as one that nothing stops."""

from __future__ import annotations

import os

import numpy as np

from keras_candle.cluster.job_folder import JobFolder
from keras_candle.launch.cancel import cancel
from keras_candle.launch.logs import find_job
from keras_candle.run_directory import RunDirectory
from tests.cluster.site import Site
from tests.cluster.slurm import until
from tests.cluster.training import STEPS, train


class Training:
    """A training that is submitted, and stopped in the middle."""

    def __init__(self, site: Site, nodes: int, ranks_per_node: int) -> None:
        self.site, self.slurm = site, site.slurm
        self._size = ("--nodes", str(nodes), "--ranks-per-node", str(ranks_per_node))
        self.run = RunDirectory(site.folder / "run")
        self.slow = site.folder / "slow"

    def submit(self, *options: str) -> JobFolder:
        program = ("-m", "tests.cluster.training", str(self.run.path))
        return self.site.submit("train", *self._size, *options, *program)

    def steps(self) -> list[int]:
        path = self.site.folder / "steps"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def wait_for_steps(self, number: int = 3) -> None:
        """Wait until a new start has taken some steps."""
        before = len(self.steps())
        until(lambda: len(self.steps()) >= before + number, 120, lambda: self.site.log("train"))

    def weights(self) -> list[np.ndarray]:
        with np.load(self.run.path.with_suffix(".npz")) as found:
            return [found[name] for name in found]


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


def test_a_training_that_is_stopped_in_every_way_ends_as_one_that_is_not(
    site, ranks, tmp_path
) -> None:
    training, slurm = Training(site, 2, 1), site.slurm
    training.slow.touch()
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
    assert training.steps() == list(range(1, STEPS + 1))
    for ours, reference in zip(
        training.weights(), ranks(2).run(train, run=str(tmp_path / "whole" / "run"))[0], strict=True
    ):
        np.testing.assert_array_equal(ours, reference)

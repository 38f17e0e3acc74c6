"""A place from which tests submit jobs with `candle submit`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from keras_candle.cluster.job_folder import JOBS, JobFolder
from keras_candle.launch.logs import all_statuses, find_job
from keras_candle.run_directory import RunDirectory
from tests.cluster.slurm import Slurm, until
from tests.rank_pool import RankPool


class Site:
    """A working directory of somebody who submits jobs to a private Slurm."""

    def __init__(self, slurm: Slurm, folder: Path) -> None:
        self.slurm, self.folder = slurm, folder

    def candle(self, *arguments: str, check: bool = True) -> str:
        return self.slurm.call("candle", *arguments, cwd=self.folder, check=check)

    def submit(self, name: str, *arguments: str) -> JobFolder:
        self.candle("submit", "--scheduler", "slurm", "--name", name, *arguments)
        return JobFolder(self.folder / JOBS / name)

    def states(self, name: str) -> list[str]:
        return [each.state.name for each in all_statuses(find_job(name), ask_every_s=0.2)]

    def wait(self, name: str, *states: str) -> None:
        until(lambda: sorted(self.states(name)) == sorted(states), 180, lambda: self.log(name))

    def log(self, name: str) -> str:
        job = JobFolder(self.folder / JOBS / name).facts()["id"]
        output = self.candle("logs", name, check=False)
        return f"{self.states(name)}: {output}\n{self.slurm.job(job)}"


class Training:
    """A training that is submitted, and stopped in the middle."""

    def __init__(self, site: Site, nodes: int, ranks_per_node: int) -> None:
        self.site, self.slurm = site, site.slurm
        self._size = ("--nodes", str(nodes), "--ranks-per-node", str(ranks_per_node))
        self.run = RunDirectory(site.folder / "run")
        self.slow = site.folder / "slow"

    def submit(self, *options: str, walltime: str = "") -> JobFolder:
        """Submit it; `walltime` is CandleCallback's."""
        program = ("-m", "tests.cluster.training", str(self.run.path), *walltime.split())
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

    def check_equals(
        self, ranks: Callable[[int], RankPool], *, may_repeat_steps: bool = False
    ) -> None:
        """Check that its weights are, bit for bit, those of a training that nothing stops."""
        from tests.cluster.training import STEPS, train

        steps = sorted(set(self.steps())) if may_repeat_steps else self.steps()
        assert steps == list(range(1, STEPS + 1))
        whole = ranks(2).run(train, run=str(self.site.folder / "whole" / "run"))[0]
        for ours, reference in zip(self.weights(), whole, strict=True):
            np.testing.assert_array_equal(ours, reference)

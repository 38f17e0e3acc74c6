"""A place from which tests submit jobs with `candle submit`."""

from __future__ import annotations

from pathlib import Path

from keras_candle.cluster.job_folder import JOBS, JobFolder
from keras_candle.launch.logs import all_statuses, find_job
from tests.cluster.slurm import Slurm, until


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
        until(lambda: sorted(self.states(name)) == sorted(states), 60, lambda: self.log(name))

    def log(self, name: str) -> str:
        job = JobFolder(self.folder / JOBS / name).facts()["id"]
        output = self.candle("logs", name, check=False)
        return f"{self.states(name)}: {output}\n{self.slurm.job(job)}"

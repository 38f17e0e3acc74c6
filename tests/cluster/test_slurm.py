"""Laws of the private Slurm that other tests build on."""

from __future__ import annotations


def test_two_nodes_run_tasks_of_one_job(slurm) -> None:
    names = slurm.call("srun", "-N2", "--ntasks-per-node=2", "printenv", "SLURMD_NODENAME").split()
    assert sorted(names) == ["n1", "n1", "n2", "n2"]

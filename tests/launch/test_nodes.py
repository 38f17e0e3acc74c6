"""How mpiexec reaches the nodes of a job inside of Slurm, and what is said where it cannot."""

import os
import socket

import pytest

from keras_candle.cluster.nodes import hydra_variables, is_on_this_node, root_is_here
from keras_candle.errors import LaunchError

HERE = socket.gethostname()
ONE = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_NODELIST": "n1"}
TWO = {**ONE, "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "n[1-2]", "SLURMD_NODENAME": "n1"}
BY_ITSELF = {"HYDRA_LAUNCHER": "fork", "HYDRA_RMK": "user"}


@pytest.mark.parametrize(
    ("hosts", "environment", "alone", "root"),
    [
        (None, {}, True, True),
        ("localhost:2,127.0.0.1:1", {}, True, True),
        (f"{HERE}:2,n9:1", {}, False, True),
        ("n9:1,localhost:1", TWO, False, False),
        (None, {**ONE, "SLURMD_NODENAME": "n1"}, True, True),
        (None, {**ONE, "SLURM_JOB_NODELIST": HERE}, True, True),
        # salloc on a login node: the ranks belong on n1.
        (None, ONE, False, False),
        (None, TWO, False, False),
    ],
)
def test_what_runs_here(hosts, environment, alone, root):
    assert is_on_this_node(hosts, environment) == alone
    assert root_is_here(hosts, environment) == root


def test_one_node_needs_no_srun(tmp_path):
    assert hydra_variables(None, {**ONE, "SLURMD_NODENAME": "n1"}) == BY_ITSELF
    assert hydra_variables("localhost:2", {**TWO, "PATH": str(tmp_path)}) == BY_ITSELF
    assert hydra_variables(None, {}) == {}
    assert hydra_variables(None, {**TWO, "HYDRA_LAUNCHER": "ssh", "PATH": str(tmp_path)}) == {}


def test_several_nodes_need_it(tmp_path):
    with pytest.raises(LaunchError, match="there is no srun on PATH"):
        hydra_variables(None, {**TWO, "PATH": str(tmp_path)})
    (tmp_path / "srun").write_text("#!/bin/sh\n")
    (tmp_path / "srun").chmod(0o755)
    assert hydra_variables(None, {**TWO, "PATH": str(tmp_path)}) == {}


@pytest.fixture
def srun_that_fails(tmp_path):
    (tmp_path / "srun").write_text("#!/bin/sh\necho srun: error: no such job >&2\nexit 1\n")
    (tmp_path / "srun").chmod(0o755)
    return {"PATH": f"{tmp_path}:{os.environ['PATH']}"}


def test_a_job_of_one_node_runs_where_srun_fails(candle, script, srun_that_fails):
    variables = {**ONE, "SLURMD_NODENAME": "n1", "SLURM_TASKS_PER_NODE": "2"}
    done = candle("run", "-np", "2", script("print(rank)\n"), **variables, **srun_that_fails)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


def test_where_srun_fails_the_job_ends_with_a_sentence(candle, script, srun_that_fails):
    variables = {**TWO, "SLURM_TASKS_PER_NODE": "1(x2)", "SLURM_JOBID": "7"}
    variables |= {"SLURM_NODELIST": "n[1-2]", "SLURM_NNODES": "2"}
    done = candle("run", "-np", "2", script("print(rank)\n"), **variables, **srun_that_fails)
    assert done.returncode == 2
    assert done.stderr.startswith("srun: error: no such job\ncandle: mpiexec has no process left")


def test_a_shell_that_a_pbs_job_has_left(tmp_path):
    assert hydra_variables(None, {"PBS_NODEFILE": str(tmp_path / "gone")}) == {"HYDRA_RMK": "user"}
    assert hydra_variables(None, {"PBS_NODEFILE": str(tmp_path)}) == {}

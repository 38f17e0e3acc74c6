"""The tables of variables, and the command line that starts a job."""

import pytest

from keras_candle.cluster.launchers import rank_facts
from keras_candle.launch.job_launcher import Job, variables
from keras_candle.launch.process import thread_settings


@pytest.mark.parametrize(
    ("environment", "facts"),
    [
        ({}, (0, 1, 1)),
        ({"PMI_RANK": "1", "PMI_SIZE": "4", "MPI_LOCALNRANKS": "2"}, (1, 4, 2)),
        ({"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "3"}, (2, 3, 3)),
        ({"SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "8"}, (5, 8, 8)),
        # srun --mpi=pmi2 sets PMI_RANK, and Slurm knows how many tasks a node has.
        (
            {"PMI_RANK": "5", "PMI_SIZE": "8", "SLURM_STEP_TASKS_PER_NODE": "4(x2)"},
            (5, 8, 4),
        ),
        # Nodes with different numbers of ranks.
        (
            {"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "3", "SLURM_STEP_TASKS_PER_NODE": "2,1"}
            | {"SLURM_NODEID": "1"},
            (2, 3, 1),
        ),
        (
            {
                "SLURM_PROCID": "3",
                "SLURM_STEP_NUM_TASKS": "5",
                "SLURM_STEP_TASKS_PER_NODE": "2(x2),1",
            }
            | {"SLURM_NODEID": "1"},
            (3, 5, 2),
        ),
        (
            {
                "SLURM_PROCID": "4",
                "SLURM_STEP_NUM_TASKS": "5",
                "SLURM_STEP_TASKS_PER_NODE": "2(x2),1",
            }
            | {"SLURM_NODEID": "2"},
            (4, 5, 1),
        ),
        # mpiexec inside a batch script: the script's own task is always number 0.
        ({"PMI_RANK": "1", "PMI_SIZE": "2", "SLURM_PROCID": "0"}, (1, 2, 2)),
    ],
)
def test_who_am_i(environment, facts):
    found = rank_facts(environment)
    assert (found.rank, found.size, found.local_size) == facts


def test_threads_are_shared_and_never_fewer_than_one():
    names = {"OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"}
    assert thread_settings({}, cores=8, local_size=2) == dict.fromkeys(names, "4")
    assert thread_settings({}, cores=2, local_size=16) == dict.fromkeys(names, "1")
    assert thread_settings({}, cores=8, local_size=1) == {}
    assert thread_settings(dict.fromkeys(names, "7"), cores=8, local_size=2) == {}


def test_the_users_variables_win_and_nothing_leaks_from_a_job_around():
    inherited = {"PYTHONHASHSEED": "7", "KERAS_CANDLE_ALL_OUTPUT": "1", "MINE": "1"}
    ours = variables(Job(2, ("x.py",), engine="mpi"), inherited)
    assert (ours["PYTHONHASHSEED"], ours["MINE"]) == ("7", "1")
    assert ours["KERAS_CANDLE_ENGINE"] == "mpi"
    assert "KERAS_CANDLE_ALL_OUTPUT" not in ours

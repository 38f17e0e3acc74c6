"""Launchers: N tasks that each believe to be alone are noticed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from keras_candle.backend.base import own_device
from keras_candle.cluster import launchers
from keras_candle.engine.horovod import _nodes

MARKS = [(each.name, {each.size: "4", each.rank: "1"}) for each in launchers.LAUNCHERS]


@pytest.mark.parametrize(("name", "environ"), MARKS)
def test_each_launcher_is_known_by_its_variables(name, environ):
    assert launchers.detect(environ).name == name
    assert launchers.promised_size(environ) == 4


def test_without_a_launcher_there_is_one_rank():
    assert launchers.detect({"SLURM_NTASKS": "8"}) is None  # a batch script outside of srun
    assert launchers.promised_size({}) == 1


def test_a_launcher_that_tells_only_the_rank_is_noticed():
    assert launchers.may_have_launcher({"PMIX_RANK": "0"})
    assert not launchers.may_have_launcher({"PMIX_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1"})
    assert not launchers.may_have_launcher({})


def test_the_innermost_launcher_decides():
    environ = {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0", "PMI_SIZE": "4"}
    assert launchers.promised_size(environ) == 4


ALONE = "from keras_candle import engine; print(engine.start({name!r}).size)"


def run_alone(name="auto", program=(), **variables):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PMI", "HYD"))}
    return subprocess.run(
        [sys.executable, *(program or ("-c", ALONE.format(name=name)))],
        env={**environment, "TF_CPP_MIN_LOG_LEVEL": "3", **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("name", ["auto", "mpi"])
def test_singletons_are_told_the_way_out(name):
    """What `srun -n 4` makes of a job whose --mpi is that of another MPI."""
    done = run_alone(name, SLURM_STEP_NUM_TASKS="4", SLURM_PROCID="2", PALS_APID="x")
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert "EngineError: srun started 4 ranks, but each finds itself alone" in last
    assert "--mpi=pmi2" in last


def test_candle_run_does_not_advise_candle_run():
    outside, inside = ({}, {"KERAS_CANDLE_LAUNCHER": "candle"})
    launcher = launchers.detect({"PMI_SIZE": "2"})
    assert "`candle run" in launchers.remedy_of(launcher, outside)
    assert "Start the ranks with" not in launchers.remedy_of(launcher, inside)


TASK = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "1"}


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"SLURM_STEP_NUM_TASKS": "1"},
        {**TASK, "PMI_RANK": "1"},
        {**TASK, "PMIX_RANK": "1"},
        {**TASK, "PALS_RANKID": "1"},
        {**TASK, "KERAS_CANDLE_ENGINE": "single"},
    ],
)
def test_ranks_that_can_meet_are_not_refused(environ):
    launchers.refuse_lonely_task(environ)


@pytest.mark.parametrize(
    ("program", "code"),
    [
        (["-c", "import keras_candle; print('imported')"], 1),
        (["-m", "keras_candle.launch.rank", "-m", "this"], 2),
    ],
)
def test_lonely_tasks_of_srun_are_refused_before_anything_is_imported(program, code):
    done = run_alone(program=program, **TASK)
    assert (done.returncode, done.stdout) == (code, "")
    last = done.stderr.strip().splitlines()[-1]
    assert "srun started 4 tasks" in last
    assert "--mpi=pmi2" in last


def test_one_process_needs_no_mpi():
    done = run_alone("auto")
    assert done.stdout == "1\n", done.stderr


def test_ranks_of_a_node_take_different_gpus():
    gpus = ["a", "b", "c", "d"]
    assert [own_device(gpus, rank) for rank in range(4)] == [["a"], ["b"], ["c"], ["d"]]


def test_nodes_with_one_name_are_told_apart():
    hosts = [("n", 0, 2), ("n", 1, 2), ("n", 0, 2), ("n", 1, 2), ("m", 0, 1)]
    assert _nodes(hosts) == ["n-0", "n-0", "n-1", "n-1", "m-0"]

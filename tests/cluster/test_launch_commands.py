"""How `candle run` starts ranks: one table, and stand-ins for what cannot be installed here."""

import json
import os
import sys

import pytest

from keras_candle.cluster import launch_commands
from keras_candle.cluster.launch_commands import (
    OPTIONS,
    LaunchCommand,
    Ranks,
    launch_command,
    slurm_job_state,
    srun_mpi,
)
from keras_candle.cluster.mpi_library import CRAY, INTEL, MPICH, OPEN_MPI, MpiLibrary
from keras_candle.errors import LaunchError

MPI_LIST = ["MPI plugin types are...", "none", "pmi2", "cray_shasta", "pmix"]
# Starts the ranks by mpiexec, as the site's launcher would, and records how it was called.
STAND_IN = """#!{python}
import json, os, sys
if "--version" in sys.argv:
    sys.exit("mpiexec version 1.2.12 using libpals")
record = dict(arguments=sys.argv, launcher=os.environ["KERAS_CANDLE_LAUNCHER"])
open({record!r}, "w").write(json.dumps(record))
program = sys.argv[sys.argv.index({python!r}) :]
here = ["-rmk", "user", "-launcher", "fork"]
os.execv({mpiexec!r}, [{mpiexec!r}, *here, "-n", "2", *program])
"""


@pytest.fixture
def slurm(stub):
    """Variables of a job on two nodes, in which a Slurm of stand-ins believes."""
    stub("squeue", "RUNNING")
    stub("srun", "\n".join([*MPI_LIST, "  --overlap  Allow other steps"]))
    stub("scontrol", "n1\nn2")
    return {
        "PATH": os.environ["PATH"],
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "n[1-2]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_JOB_CPUS_PER_NODE": "4(x2)",
    }


def of(ranks: Ranks, environment, family: str = MPICH) -> LaunchCommand:
    return launch_command(ranks, environment, MpiLibrary(family))


@pytest.mark.parametrize(
    ("family", "listed", "more", "value"),
    [
        (MPICH, MPI_LIST, {}, "pmi2"),
        (OPEN_MPI, MPI_LIST, {}, "pmix"),
        (OPEN_MPI, ["none", "pmi2"], {}, ""),
        (CRAY, MPI_LIST, {}, "cray_shasta"),
        (CRAY, ["none", "pmi2"], {}, "pmi2"),
        (INTEL, MPI_LIST, {}, ""),
        (INTEL, MPI_LIST, {"I_MPI_PMI_LIBRARY": "/usr/lib/libpmi2.so"}, "pmi2"),
        ("", MPI_LIST, {}, ""),
    ],
)
def test_the_value_of_mpi_follows_from_the_library(stub, family, listed, more, value):
    stub("srun", "\n".join(f"\t{each}" for each in listed))
    environment = {"PATH": os.environ["PATH"], **more}
    assert srun_mpi(MpiLibrary(family), environment) == value


def test_a_value_that_srun_lists_and_cannot_load_is_left_out(stub):
    srun = stub("srun", "pmix")
    text = "echo 'srun: error: Invalid MPI type' >&2; exit 1"
    srun.write_text(f"#!/bin/sh\n[ $1 = --mpi=list ] && echo pmix && exit\n{text}\n")
    assert srun_mpi(MpiLibrary(OPEN_MPI), {"PATH": os.environ["PATH"]}) == ""


def test_srun_on_the_nodes_of_the_job(slurm):
    started = of(Ranks(6), slurm)
    assert started.arguments[:5] == (
        "srun",
        "--mpi=pmi2",
        "--kill-on-bad-exit=1",
        "--ntasks=6",
        "--nodes=2",
    )
    assert {"--export=ALL", "--input=0", "--overlap"} < set(started.arguments)
    assert not {"--label", "--unbuffered"} & set(started.arguments)
    assert f"--job-name={started.step}" in started.arguments


def test_options_of_srun_that_follow_from_the_job_and_the_user(slurm):
    job = {**slurm, "SLURM_CPUS_PER_TASK": "2", OPTIONS: "--gpus-per-task=1 --comment='a b'"}
    arguments = of(Ranks(1, labelled=True, live=True), job).arguments
    assert {"--nodes=1", "--cpus-per-task=2", "--label", "--unbuffered"} < set(arguments)
    assert arguments[-2:] == ("--gpus-per-task=1", "--comment=a b")
    with pytest.raises(LaunchError, match="cannot be read"):
        of(Ranks(1), {**slurm, OPTIONS: "'"})


@pytest.mark.parametrize(("per_node", "removed"), [("1", True), ("2", False)])
def test_tasks_per_node_of_another_number_of_ranks_are_left_out(slurm, per_node, removed):
    started = of(Ranks(4), {**slurm, "SLURM_NTASKS_PER_NODE": per_node})
    assert ("SLURM_NTASKS_PER_NODE" in started.removed) == removed


def test_more_ranks_than_the_job_has_room_for(slurm):
    with pytest.raises(LaunchError, match=r"asks for 9 ranks, but job 7 has room for 8: 8 CPUs"):
        of(Ranks(9), slurm)
    with pytest.raises(LaunchError, match=r"room for 2: 8 CPUs on 2 nodes, 3 for each rank"):
        of(Ranks(3), {**slurm, "SLURM_CPUS_PER_TASK": "3"})


def test_hosts_of_another_job_are_refused_and_those_of_this_node_never(slurm):
    with pytest.raises(LaunchError, match="names n3, but this job has only n1, n2"):
        of(Ranks(2, "n1:1,n3:1"), slurm)
    assert of(Ranks(9, "localhost:9"), slurm).name == "hydra"


@pytest.mark.parametrize(
    ("text", "code", "state"),
    [
        ("RUNNING", 0, "running"),
        ("", 0, "ended"),
        ("COMPLETED", 0, "ended"),
        ("slurm_load_jobs error: Invalid job id specified", 1, "ended"),
        ("slurm_load_jobs error: Unable to contact slurm controller", 1, "unknown"),
    ],
)
def test_the_state_of_the_job_that_the_variables_name(stub, slurm, text, code, state):
    stub("squeue", text, code)
    assert slurm_job_state(slurm) == state
    assert slurm_job_state({"PATH": slurm["PATH"]}) == ""


def test_variables_left_over_from_a_job(candle, script, stub):
    stub("squeue", "slurm_load_jobs error: Invalid job id specified", 1)
    stub("srun", "srun: error: no such job", 1)
    left = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_NNODES": "2"}
    body = "rank or print([n for n in os.environ if n.startswith('SLURM')])\n"
    done = candle("run", "-np", "2", script(body), **left)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
    assert done.stderr.startswith("candle: SLURM_JOB_ID=7 is left over from a job")
    assert done.stderr.count("\n") == 1


SITES = {
    "jsrun": (
        {"LSB_JOBID": "7", "LSB_MCPU_HOSTS": "batch1 1 h1 42 h2 42"},
        ["--nrs=2", "--tasks_per_rs=1", "--cpu_per_rs=42", "--bind=packed:42"],
    ),
    "flux": ({"FLUX_JOB_ID": "f7"}, ["run", "--ntasks=2", "-o", "exit-timeout=10s"]),
    "mpiexec": ({"PBS_JOBID": "7"}, ["-n", "2", "--ppn", "1", "--cpu-bind", "depth", "-d"]),
}


@pytest.mark.parametrize("program", SITES)
def test_the_sites_launcher_by_a_stand_in(candle, script, tmp_path, program):
    variables, expected = SITES[program]
    variables = {**variables, "PBS_NODEFILE": str(tmp_path / "nodes")}
    record = tmp_path / "record.json"
    mpiexec = str(launch_commands.find_mpiexec())
    text = STAND_IN.format(python=sys.executable, record=str(record), mpiexec=mpiexec)
    (tmp_path / "nodes").write_text("h1\nh1\nh2\n")
    (tmp_path / program).write_text(text)
    (tmp_path / program).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = candle("run", "-np", "2", script("rank or print('root')\n"), PATH=path, **variables)
    assert (done.returncode, done.stdout, done.stderr) == (0, "root\n", "")
    called = json.loads(record.read_text())
    assert called["arguments"][1 : len(expected) + 1] == expected
    assert called["launcher"] != "hydra"


def test_without_a_job_the_variables_of_no_site_matter(stub):
    stub("jsrun")
    stub("flux")
    assert of(Ranks(2), {"PATH": os.environ["PATH"]}).name == "hydra"

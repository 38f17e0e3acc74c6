"""How `candle run` starts the ranks: by the site's launcher inside a job, else by mpiexec.

One table, `launch_command`. Which rank a process is comes from MPI in every case. jsrun, PALS and
flux have been run with stand-ins only.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import shutil
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from keras_candle.cluster.launchers import counts_of_nodes
from keras_candle.cluster.mpi_library import (
    CRAY,
    INTEL,
    MPICH,
    OPEN_MPI,
    PALS,
    MpiLibrary,
    family_of_mpiexec,
    find_mpiexec,
)
from keras_candle.cluster.nodes import hydra_variables, is_on_this_node, root_is_here
from keras_candle.cluster.schedulers import SLURM, answer_of
from keras_candle.errors import LaunchError
from keras_candle.launcher_messages import HYDRA

OPTIONS = "KERAS_CANDLE_LAUNCHER_OPTIONS"
"""Variable with further options of the launcher, quoted as in a shell."""
SRUN = "srun"
RUNNING, ENDED, UNKNOWN = "running", "ended", "unknown"
# Variables by which a user chooses how hydra reaches the nodes.
_HYDRA_CHOSEN = ("HYDRA_LAUNCHER", "HYDRA_BOOTSTRAP")
# Open MPI 4 and 5: as many ranks as asked for, on whatever cores are free, as hydra has it.
_OPEN_MPI_ANYWHERE = {
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}
_OPEN_MPI_UNBOUND = {
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
}


@dataclass(frozen=True)
class Ranks:
    """The ranks to start.

    Attributes:
        size: how many.
        hosts: "a:4,b:4", or None.
        labelled: the launcher puts the rank before each line.
        live: stdout is a terminal, so that no launcher may hold back the start of a line.
    """

    size: int
    hosts: str | None = None
    labelled: bool = False
    live: bool = False


@dataclass(frozen=True)
class LaunchCommand:
    """A launcher's command line, which the ranks' own program follows.

    Attributes:
        name: HYDRA, SRUN or the launcher's usual name.
        arguments: the command, its program first.
        variables: to add to its environment, where the user has not set them.
        removed: variables to take out of it.
        inherits: root runs on this node and has the launcher's open files.
        step: the name of Slurm's step, "" without one.
        remark: a sentence for the user.
    """

    name: str
    arguments: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    removed: Sequence[str] = ()
    inherits: bool = False
    step: str = ""
    remark: str = ""


def launch_command(
    ranks: Ranks, environment: Mapping[str, str], library: MpiLibrary
) -> LaunchCommand:
    """Choose the launcher and build its command.

    Args:
        ranks: to start.
        environment: of `candle run`.
        library: the MPI that mpi4py loads.

    Raises:
        LaunchError: the nodes cannot be reached, there are too few of them, or no launcher fits.
    """
    slurm = slurm_job_state(environment)
    chosen = any(name in environment for name in _HYDRA_CHOSEN)
    if ranks.hosts is not None:
        if slurm != ENDED:
            _refuse_hosts_outside(ranks.hosts, allocated_nodes(environment))
    elif slurm == RUNNING and not chosen:
        mpi = srun_mpi(library, environment)
        if mpi:
            return _srun(ranks, environment, mpi)
    elif "LSB_JOBID" in environment and _on_path("jsrun", environment):
        return _jsrun(ranks, environment)
    elif "PBS_JOBID" in environment and (pals := _pals(environment)):
        return _pals_mpiexec(ranks, environment, pals)
    elif {"FLUX_URI", "FLUX_JOB_ID"} & set(environment) and _on_path("flux", environment):
        return _flux(ranks, environment)
    return _mpiexec(ranks, environment, library, slurm)


def slurm_job_state(environment: Mapping[str, str]) -> str:
    """Return the state of the Slurm job that the variables name.

    Args:
        environment: the variables to read.

    Returns:
        RUNNING; ENDED where the variables are left over from a job that Slurm no longer runs;
        UNKNOWN where Slurm gives no answer; "" where the variables name no job.
    """
    job = environment.get(SLURM.job_id) or environment.get("SLURM_JOBID")
    if not job:
        return ""
    if not _on_path("squeue", environment):
        return UNKNOWN
    try:
        printed = answer_of(["squeue", "--noheader", "-o", "%T", "-j", job])
    except LaunchError as problem:
        return ENDED if "Invalid job id" in str(problem) else UNKNOWN
    words = set(printed.split())
    if "RUNNING" in words or (environment.get("SLURMD_NODENAME") and words):
        return RUNNING
    return ENDED


def srun_mpi(library: MpiLibrary, environment: Mapping[str, str]) -> str:
    """Return srun's --mpi for an MPI library, "" where srun cannot start its ranks.

    Args:
        library: that mpi4py loads.
        environment: the variables to read.
    """
    if not _on_path(SRUN, environment):
        return ""
    # Intel's library speaks pmi2 only through a file of Slurm's that the site names.
    if library.family == INTEL and "I_MPI_PMI_LIBRARY" not in environment:
        return ""
    wanted = {
        MPICH: ("pmi2",),
        CRAY: ("cray_shasta", "pmi2"),
        INTEL: ("pmi2",),
        OPEN_MPI: ("pmix",),
    }.get(library.family, ())
    with contextlib.suppress(LaunchError):
        listed = srun_mpi_list()
        return next((each for each in wanted if each in listed and _can_load(each)), "")
    return ""


def _can_load(mpi: str) -> bool:
    """Return whether srun can load what it lists: pmix needs a library that may be missing."""
    try:
        answer_of([SRUN, f"--mpi={mpi}", "--test-only", "--ntasks=1", "true"])
    except LaunchError as problem:
        # A refusal of such a job for any other reason says nothing about --mpi.
        return "Invalid MPI type" not in str(problem)
    return True


def srun_mpi_list() -> list[str]:
    """Return the values that this cluster's srun has for --mpi.

    Raises:
        LaunchError: srun gives no answer.
    """
    # Older versions write the list to stderr.
    printed = answer_of(["sh", "-c", "srun --mpi=list 2>&1"])
    words = [line.strip().removeprefix("srun: ").strip() for line in printed.splitlines()]
    return [word for word in words if word and " " not in word]


def allocated_nodes(environment: Mapping[str, str]) -> list[str]:
    """Return the names of the job's nodes, none where they are not known.

    Args:
        environment: the variables to read.
    """
    if names := environment.get("SLURM_JOB_NODELIST") or environment.get("SLURM_NODELIST"):
        with contextlib.suppress(LaunchError):
            return answer_of(["scontrol", "show", "hostnames", names]).split()
    if file := environment.get("PBS_NODEFILE"):
        with contextlib.suppress(OSError):
            return list(dict.fromkeys(Path(file).read_text().split()))
    counts = environment.get("LSB_MCPU_HOSTS", "").split()
    return counts[::2]


def _srun(ranks: Ranks, environment: Mapping[str, str], mpi: str) -> LaunchCommand:
    cpus_per_rank = _positive(environment.get("SLURM_CPUS_PER_TASK"), 1)
    cpus = counts_of_nodes(environment.get("SLURM_JOB_CPUS_PER_NODE", ""))
    room = sum(each // cpus_per_rank for each in cpus)
    if cpus and ranks.size > room:
        raise LaunchError(
            f"-np asks for {ranks.size} ranks, but job {environment[SLURM.job_id]} has room for "
            f"{room}: {sum(cpus)} CPUs on {len(cpus)} nodes, {cpus_per_rank} for each rank. Ask "
            f"Slurm for more (--ntasks={ranks.size}), or start fewer ranks. On this node alone "
            f"--hosts localhost:{ranks.size} starts them whatever its CPUs"
        )
    nodes = len(cpus) or _positive(environment.get("SLURM_JOB_NUM_NODES"), 1)
    step = f"candle-{secrets.token_hex(4)}"
    options = [
        f"--mpi={mpi}",
        "--kill-on-bad-exit=1",
        f"--ntasks={ranks.size}",
        f"--nodes={min(nodes, ranks.size)}",
        f"--job-name={step}",
        "--export=ALL",
        "--input=0",
    ]
    if "SLURM_CPUS_PER_TASK" in environment:  # srun alone does not take it from the job
        options.append(f"--cpus-per-task={cpus_per_rank}")
    if "--overlap" in _help_of_srun():  # the step of an interactive shell holds the CPUs
        options.append("--overlap")
    if ranks.live:
        options.append("--unbuffered")
    if ranks.labelled:
        options.append("--label")
    per_node = "SLURM_NTASKS_PER_NODE"
    fits = _positive(environment.get(per_node), 0) * nodes == ranks.size
    return LaunchCommand(
        SRUN,
        (SRUN, *options, *_further(environment)),
        removed=() if fits else (per_node,),
        step=step,
    )


def _help_of_srun() -> str:
    with contextlib.suppress(LaunchError):
        return answer_of([SRUN, "--help"])
    return ""


def _jsrun(ranks: Ranks, environment: Mapping[str, str]) -> LaunchCommand:
    # "batch1 1 h1 42 h2 42": the script runs on the first, the ranks on the following ones.
    slots = [int(each) for each in environment.get("LSB_MCPU_HOSTS", "").split()[1::2]]
    slots = slots[1:] if len(slots) > 1 else slots
    options = [f"--nrs={ranks.size}", "--tasks_per_rs=1"]
    if slots:
        per_node = -(-ranks.size // len(slots))
        cores = max(1, min(slots) // per_node)
        options += [f"--cpu_per_rs={cores}", f"--bind=packed:{cores}"]
    if ranks.labelled:
        options.append("--stdio_mode=prepended")
    return LaunchCommand("jsrun", ("jsrun", *options, *_further(environment)))


def _pals(environment: Mapping[str, str]) -> str:
    found = shutil.which("mpiexec", path=environment.get("PATH", os.defpath))
    return found if found and family_of_mpiexec(Path(found)) == PALS else ""


def _pals_mpiexec(ranks: Ranks, environment: Mapping[str, str], program: str) -> LaunchCommand:
    per_node = -(-ranks.size // max(1, len(allocated_nodes(environment))))
    cores = max(1, len(os.sched_getaffinity(0)) // per_node)
    options = ["-n", str(ranks.size), "--ppn", str(per_node)]
    options += ["--cpu-bind", "depth", "-d", str(cores)]
    if ranks.labelled:
        options.append("--label")
    return LaunchCommand("PALS", (program, *options, *_further(environment)))


def _flux(ranks: Ranks, environment: Mapping[str, str]) -> LaunchCommand:
    options = [f"--ntasks={ranks.size}", "-o", "exit-timeout=10s"]
    if ranks.labelled:
        options.append("--label-io")
    return LaunchCommand("flux run", ("flux", "run", *options, *_further(environment)))


def _mpiexec(
    ranks: Ranks, environment: Mapping[str, str], library: MpiLibrary, slurm: str
) -> LaunchCommand:
    remark, removed = "", tuple[str, ...]()
    if slurm == ENDED:
        remark = (
            f"SLURM_JOB_ID={environment.get(SLURM.job_id)} is left over from a job that Slurm no "
            "longer runs: the ranks start on this node, without Slurm"
        )
        removed = tuple(n for n in environment if n.startswith("SLURM") and n != "SLURM_CONF")
        environment = {name: environment[name] for name in environment if name not in removed}
    program = find_mpiexec(library, environment)
    family = family_of_mpiexec(program) if library.family else MPICH
    options = ["-n", str(ranks.size)]
    if family == OPEN_MPI:
        alone = is_on_this_node(ranks.hosts, environment)
        variables = {**_OPEN_MPI_UNBOUND, **(_OPEN_MPI_ANYWHERE if alone else {})}
        options += ["--host", ranks.hosts] if ranks.hosts else []
        options += ["--tag-output"] if ranks.labelled else []
        name, inherits = OPEN_MPI, False
    else:
        variables = hydra_variables(ranks.hosts, environment)
        hosts = ranks.hosts
        if family == INTEL and is_on_this_node(hosts, environment):
            # Intel's takes no name but the host's own for this node, and reaches any other by ssh.
            hosts = socket.gethostname()
        options += ["-hosts", hosts] if hosts else []
        options += ["-prepend-rank"] if ranks.labelled else []
        name, inherits = HYDRA, root_is_here(ranks.hosts, environment)
    arguments = (str(program), *options, *_further(environment))
    return LaunchCommand(name, arguments, variables, removed, inherits, remark=remark)


def _refuse_hosts_outside(hosts: str, nodes: list[str]) -> None:
    if not nodes or is_on_this_node(hosts, {}):
        return
    short = {name.partition(".")[0] for name in nodes}
    names = [entry.partition(":")[0] for entry in hosts.split(",")]
    outside = [name for name in names if name.partition(".")[0] not in short]
    if outside:
        raise LaunchError(
            f"--hosts names {', '.join(outside)}, but this job has only {', '.join(nodes)}. Leave "
            "--hosts out: the ranks then start on the job's nodes"
        )


def _further(environment: Mapping[str, str]) -> list[str]:
    try:
        return shlex.split(environment.get(OPTIONS, ""))
    except ValueError as cause:
        raise LaunchError(
            f"{OPTIONS}={environment[OPTIONS]!r} cannot be read ({cause}); expected options as in "
            "a shell, for example --gpus-per-task=1"
        ) from cause


def _on_path(program: str, environment: Mapping[str, str]) -> bool:
    return shutil.which(program, path=environment.get("PATH", os.defpath)) is not None


def _positive(text: str | None, default: int) -> int:
    return max(default, int(text)) if text is not None and text.isdigit() else default

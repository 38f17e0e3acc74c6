"""Settings for hydra's mpiexec to reach a job's nodes, and whether root runs on this one."""

import os
import shutil
import socket
from collections.abc import Mapping

from keras_candle.cluster.schedulers import SLURM
from keras_candle.errors import LaunchError

_CHOSEN = ("HYDRA_LAUNCHER", "HYDRA_BOOTSTRAP")
_SLURM = (SLURM.job_id, "SLURM_JOBID", *SLURM.node_lists)


def is_on_this_node(hosts: str | None, environment: Mapping[str, str]) -> bool:
    """Return whether all ranks run on this node.

    Args:
        hosts: "a:4,b:4", or None.
        environment: the launcher's variables.
    """
    if hosts is not None:
        return all(_is_here(each) for each in hosts.split(","))
    if not _in_slurm(environment):
        return True
    # A shell that salloc has started runs on the login node, and Slurm sets no node's name there.
    alone = {environment.get(name) for name in SLURM.node_counts} & {"1"}
    here = {environment.get(name) for name in _SLURM} & {socket.gethostname(), _short_name()}
    return bool(alone) and (SLURM.node_name in environment or bool(here))


def root_is_here(hosts: str | None, environment: Mapping[str, str]) -> bool:
    """Return whether rank 0 runs on this node, as far as this node can know.

    Args:
        hosts: "a:4,b:4", or None.
        environment: the launcher's variables.
    """
    if hosts is not None:
        return _is_here(hosts.split(",")[0])
    return is_on_this_node(hosts, environment)


def hydra_variables(hosts: str | None, environment: Mapping[str, str]) -> dict[str, str]:
    """Return hydra's variables: start ranks by fork on this node, by srun on remote nodes.

    Args:
        hosts: "a:4,b:4", or None.
        environment: the launcher's variables; a launcher that the user chose there stays.

    Raises:
        LaunchError: the nodes are Slurm's, and srun is not on PATH.
    """
    if any(name in environment for name in _CHOSEN):
        return {}
    if not _in_slurm(environment):
        # A shell that a PBS job has left: hydra would look for the job's nodes.
        is_left = not os.path.exists(environment.get("PBS_NODEFILE", os.devnull))
        return {"HYDRA_RMK": "user"} if is_left else {}
    if is_on_this_node(hosts, environment):
        # In a container there is no srun, or one that does not reach Slurm: hydra would wait for
        # ever.
        return {"HYDRA_LAUNCHER": "fork", "HYDRA_RMK": "user"}
    if shutil.which("srun", path=environment.get("PATH", os.defpath)) is None:
        raise LaunchError(
            "Slurm's variables name other nodes than this one, which mpiexec reaches by srun, but "
            "there is no srun on PATH (in a container there often is none). Pass --hosts "
            "localhost:N for N ranks on this node, or set HYDRA_LAUNCHER=ssh"
        )
    return {}


def _in_slurm(environment: Mapping[str, str]) -> bool:
    return any(name in environment for name in _SLURM)


def _is_here(entry: str) -> bool:
    name = entry.partition(":")[0]
    return name in ("localhost", socket.gethostname(), _short_name()) or name.startswith("127.")


def _short_name() -> str:
    return socket.gethostname().partition(".")[0]

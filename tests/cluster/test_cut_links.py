"""A host that cannot be reached any more: it is named, and the job ends on all hosts."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from contextlib import suppress

import pytest

from tests.cluster import network as networks
from tests.cluster.slurm import until

# The ranks of a job as the watchdog sees them, without the time that TensorFlow takes.
RANKS = """
import sys, time
from pathlib import Path
from mpi4py import MPI
from keras_candle.watchdog import heartbeat
from keras_candle.watchdog.rank_watch import RankWatch
world = MPI.COMM_WORLD
node = world.Split_type(MPI.COMM_TYPE_SHARED, world.rank)
timeout_s, lost_s = map(float, sys.argv[1:])
watch = RankWatch(
    world.rank, timeout_s, Path("run"), local_rank=node.rank, on_one_node=False, lost_s=lost_s
)
watch.connect(world.bcast(watch.address() if world.rank == 0 else None))
for step in range(10**6):
    watch.board.beat(0, step, heartbeat.IN_STEP)
    world.barrier()
    time.sleep(0.01)
    if step == 200 and world.rank == 0:
        print("trains", flush=True)
"""


@pytest.fixture(scope="module")
def network():
    with networks.connected(3) as found:
        yield found


def watchers(network, host):
    """The watchers on a host, by rank: the process of each, and that of its rank."""
    found = {}
    for pid in network.processes(host):
        with suppress(OSError), open(f"/proc/{pid}/cmdline") as file:  # it may have just ended
            *_, module, arguments, _ = ["", "", *file.read().split("\0")]
            if module == "keras_candle.watchdog":
                given = json.loads(arguments)
                found[given["rank"]] = (pid, given["pid"])
    return found


def connections_of_watchers(network, host):
    """TCP connections that a host's watchers have."""
    done = network.run("ss", "--tcp", "--processes", "--numeric", "--no-header", cwd="/", host=host)
    pids = [pid for pid, _ in watchers(network, host).values()]
    return [each for each in done.stdout.splitlines() if any(f"pid={pid}," in each for pid in pids)]


def started(network, folder, *limits_s):
    """A job of two ranks on each host, in its training."""
    (folder / "ranks.py").write_text(RANKS)
    (folder / "run").mkdir()
    hosts = ",".join(f"{host}:2" for host in network.hosts)
    command = ("candle", "run", "-np", "6", "--hosts", hosts, "ranks.py", *limits_s)
    job = network.start(*command, cwd=folder)
    assert job.stdout.readline() == "trains\n"
    return job


def test_a_lost_host_is_named_and_all_ranks_end(network, tmp_path):
    job = started(network, tmp_path, "600", "4")
    # One of each other node, not of each rank.
    assert len(connections_of_watchers(network, "node1")) == 2
    network.cut("node3")
    try:
        _, told = job.communicate(timeout=40)
        # Also those that nobody can reach: they would train on beside the ranks of a restart.
        until(lambda: not network.processes("node3"), 20, lambda: "ranks are left on node3")
    finally:
        network.mend("node3")
    assert job.returncode == 124
    assert re.search(
        r"\ncandle: the watchdog ended the job: ranks 4, 5 are not heard: host node3 or the "
        r"network to it is down, since \d s; last seen in step \d+ of the run \(epoch 1\)\n$",
        told,
    )


def test_a_stall_that_a_lost_host_explains(network, tmp_path):
    job = started(network, tmp_path, "4", "60")
    network.cut("node2")
    try:
        _, told = job.communicate(timeout=40)
    finally:
        network.mend("node2")
    assert job.returncode == 124
    found = "no progress for 4 s. Ranks 2, 3 are not heard: host node2 or the network to it is down"
    assert told.splitlines()[0].startswith(f"keras_candle: {found}, since ")


def test_a_watcher_that_ends_is_no_lost_host(network, tmp_path):
    job = started(network, tmp_path, "7", "4")
    os.kill(watchers(network, "node2")[2][0], signal.SIGKILL)
    with pytest.raises(subprocess.TimeoutExpired):
        job.wait(6)
    # Root has heard of the node's second rank through that watcher, and now hears from its own.
    assert len(connections_of_watchers(network, "node1")) == 2
    os.kill(watchers(network, "node2")[3][1], signal.SIGSTOP)
    _, told = job.communicate(timeout=40)
    assert job.returncode == 124
    assert re.search(r"ended the job: rank 3 made .* its process is stopped \(by SIGSTOP", told)

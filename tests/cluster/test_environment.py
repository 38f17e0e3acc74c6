"""A packed environment runs at its new place, without the old one."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import time
import venv
from pathlib import Path

import pytest

from keras_candle.cluster import environment as environments
from keras_candle.cluster.environment import ONCE_PER_NODE, find, pack, staging_lines, unpack
from keras_candle.errors import LaunchError

ROOT = Path(__file__).parent.parent.parent
WITHIN_S = 60


def site_packages(prefix):
    return next(prefix.glob("lib/python*/site-packages"))


@pytest.fixture
def prefix(tmp_path):
    """A small environment: one package, a script, an editable install of keras_candle."""
    prefix = tmp_path / "my.env"
    venv.create(prefix, symlinks=True)
    packages = site_packages(prefix)
    (packages / "own.py").write_text("import inside\nplace = __file__\n")
    (prefix / "src").mkdir()
    (prefix / "src" / "inside.py").touch()
    (packages / "inside.pth").write_text(f"{prefix}/src\n")
    # mpi4py and NumPy are those of the tests' environment.
    outside = f"{ROOT}\n{sysconfig.get_path('platlib')}\n"
    (packages / "_editable_impl_keras_candle.pth").write_text(outside)
    script = prefix / "bin" / "own"
    script.write_text(f"#!{prefix}/bin/python\nimport own\nprint(own.place)\n")
    script.chmod(0o755)
    (prefix / "bin" / "alias").symlink_to(script)
    return prefix


@pytest.fixture
def target(tmp_path):
    return tmp_path / "local" / f"keras_candle-{os.getuid()}" / "environment-x"


def packed(prefix, tmp_path):
    environment = find(prefix, tmp_path / "packed")
    pack(environment)
    return environment


def left(target):
    return [p.name for p in target.parent.iterdir()] if target.parent.exists() else []


def test_it_runs_elsewhere_without_the_place_that_it_was_made_at(prefix, target, tmp_path):
    environment = packed(prefix, tmp_path)
    prefix.rename(tmp_path / "moved")
    unpack(environment.archive, prefix, target)
    for name in ("own", "alias"):
        done = subprocess.run([target / "bin" / name], capture_output=True, text=True, check=True)
        assert done.stdout == f"{site_packages(target) / 'own.py'}\n"
    assert f"VIRTUAL_ENV={target}" in (target / "bin" / "activate").read_text().replace('"', "")
    assert left(target) == [target.name]


def test_what_stays_outside_is_named(prefix, tmp_path):
    (site_packages(prefix) / "beside.pth").write_text(f"{prefix}-2/src\n")
    remarks = "\n".join(find(prefix, tmp_path).remarks)
    assert f"{prefix}-2/src (beside.pth) is outside" in remarks
    assert f"{ROOT} (_editable_impl_keras_candle.pth) is outside of the environment" in remarks
    assert "inside.pth" not in remarks


def test_an_unchanged_environment_is_packed_once(prefix, tmp_path):
    first = find(prefix, tmp_path / "packed")
    assert pack(first)
    compiled = site_packages(prefix) / "__pycache__"
    compiled.mkdir()
    (compiled / "own.pyc").write_text("")
    again = find(prefix, tmp_path / "packed")
    assert again.archive == first.archive
    assert not pack(again)
    (site_packages(prefix) / "new.py").touch()
    assert find(prefix, tmp_path / "packed").archive != first.archive
    assert [p.name for p in (tmp_path / "packed").iterdir()] == [first.archive.name]


def test_one_that_changes_meanwhile_is_not_kept(prefix, tmp_path):
    environment = find(prefix, tmp_path / "packed")
    (site_packages(prefix) / "new.py").touch()
    with pytest.raises(LaunchError, match="changed while it was packed"):
        pack(environment)
    assert list((tmp_path / "packed").iterdir()) == []


def test_what_cannot_be_moved_is_refused(prefix, tmp_path):
    (tmp_path / "system").mkdir()
    with pytest.raises(LaunchError, match="is not a virtual environment"):
        find(tmp_path / "system", tmp_path)
    (prefix / "conda-meta").mkdir()
    with pytest.raises(LaunchError, match=r"is a conda environment.*conda-pack"):
        find(prefix, tmp_path)


def test_what_cannot_be_unpacked_is_one_sentence_and_leaves_nothing(prefix, target, tmp_path):
    environment = packed(prefix, tmp_path)
    environment.archive.write_bytes(environment.archive.read_bytes()[:5000])
    with pytest.raises(
        LaunchError, match=r"host .*: cannot unpack .* \(5,000 bytes\) to "
    ) as error:
        unpack(environment.archive, prefix, target)
    assert "\n" not in str(error.value)
    assert left(target) == []
    environment.archive.unlink()
    with pytest.raises(LaunchError, match="No such file"):
        unpack(environment.archive, prefix, target)
    (prefix / "bin" / "python").unlink()
    environment = packed(prefix, tmp_path)
    with pytest.raises(LaunchError, match="No such file or directory"):
        unpack(environment.archive, prefix, target)
    assert left(target) == []


@pytest.mark.parametrize(
    ("options", "says"),
    [("size=16k", "no space: 16,384 bytes are free"), ("size=9m,noexec", "programs cannot run")],
)
def test_a_folder_that_does_not_do_is_named(prefix, tmp_path, options, says):
    environment = packed(prefix, tmp_path)
    local = tmp_path / "small"
    local.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "none", local]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    target = local / f"keras_candle-{os.getuid()}" / "environment-x"
    try:
        with pytest.raises(LaunchError, match=f"to {target}: {says}"):
            unpack(environment.archive, prefix, target)
        assert left(target) == []
    finally:
        subprocess.run(["umount", local], check=True)


def test_what_a_killed_job_has_left_is_removed_if_nothing_runs_there(
    prefix, target, tmp_path, monkeypatch
):
    environment = packed(prefix, tmp_path)
    for name in ("environment-old", "environment-used"):
        unpack(environment.archive, prefix, target.with_name(name))
    used = target.with_name("environment-used")
    (target.with_name("environment-data") / "data").mkdir(parents=True)  # of candle.stage
    target.with_name("environment-y.partial-1").mkdir()
    python = f"{used.parent}//{used.name}/bin/python"  # as with TMPDIR=/tmp/
    running = subprocess.Popen([python, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        monkeypatch.setattr(environments, "_LEFT_FOR_S", 0.0)
        time.sleep(0.01)
        unpack(environment.archive, prefix, target)
    finally:
        running.communicate()
    assert sorted(left(target)) == [
        *("environment-data", "environment-used", "environment-x"),
    ]


def test_each_scheduler_has_lines_that_bash_accepts(prefix, tmp_path):
    environment = find(prefix, tmp_path / "a 'b' $c")
    for scheduler in ONCE_PER_NODE:
        script = "\n".join(("python=x", *staging_lines(environment, scheduler, 2)))
        done = subprocess.run(
            ["bash", "-n"], input=script.encode(), capture_output=True, check=True
        )
        assert done.stderr == b""


def test_a_job_on_two_nodes_runs_in_it_and_removes_it(prefix, slurm, tmp_path):
    (tmp_path / "train.py").write_text(
        "import own\nimport keras_candle as candle\n"
        "places = candle.engine.current().gather_objects(own.place)\n"
        "if candle.is_root():\n    print(*places, sep='\\n')\n"
    )
    # In a complete environment mpi4py finds the one beside its Python.
    mpi = f"export MPI4PY_LIBMPI={sys.prefix}/lib/libmpi.so.12"
    done = subprocess.run(
        [
            prefix / "bin" / "python",
            "-m",
            "keras_candle",
            "submit",
            "--stage-environment",
            "--nodes=2",
            "--walltime=00:05:00",
            "--engine=mpi",
            "--environment",
            mpi,
            "train.py",
        ],
        cwd=tmp_path,
        env={**slurm.environment, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=True,
    )
    assert "my.env is packed" in done.stderr
    job = done.stdout.split()[2].rstrip(":")
    ended = slurm.wait(job, "COMPLETED", "FAILED", timeout_s=WITHIN_S)["JobState"]
    log = (tmp_path / "candle-jobs" / "train" / "output.log").read_text()
    assert ended == "COMPLETED", log
    local = tmp_path / f"keras_candle-{os.getuid()}"
    assert log.count(f"\n{local}/environment-") == 2
    assert log.count("candle: environment on n") == 2
    assert list(local.iterdir()) == []


def test_a_stop_while_it_is_unpacked_is_a_job_to_run_again(prefix, tmp_path):
    environment = packed(prefix, tmp_path)
    slow = tmp_path / "bin" / "tar"
    slow.parent.mkdir()
    slow.write_text(
        f'#!/bin/sh\ntouch {tmp_path}/unpacking; sleep 1; PATH=/usr/bin:/bin tar "$@"\n'
    )
    slow.chmod(0o755)
    lines = staging_lines(environment, "slurm", 1)
    script = "\n".join((f"python={sys.executable}", *lines, "echo began"))
    job = subprocess.Popen(
        ["bash", "-c", script],
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith("SLURM")},
            "PATH": f"{slow.parent}:{os.environ['PATH']}",
            "TMPDIR": str(tmp_path / "local"),
            "KERAS_CANDLE_JOB": str(tmp_path),
            "PYTHONPATH": str(ROOT),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    (tmp_path / "job.json").write_text('{"scheduler": "slurm", "requeue_by": "exit-code"}')
    deadline_s = time.monotonic() + WITHIN_S
    while not (tmp_path / "unpacking").exists():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    job.terminate()
    output = job.communicate(timeout=WITHIN_S)[0]
    assert job.returncode == 75, output
    assert "began" not in output
    assert left(tmp_path / "local" / f"keras_candle-{os.getuid()}" / "x") == []

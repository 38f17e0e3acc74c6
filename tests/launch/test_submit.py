"""`candle submit`, with stub commands in the schedulers' places; tests/cluster has a real Slurm."""

import json
import os
import subprocess
import sys

import pytest

from keras_candle.cluster.job_folder import JobFolder
from keras_candle.cluster.job_script import BATCH_SYSTEMS
from keras_candle.launch.submit import wait

SUBMIT = {"slurm": "sbatch", "pbs": "qsub", "lsf": "bsub", "flux": "flux"}
QUERY = {"slurm": "squeue", "pbs": "qstat", "lsf": "bjobs"}
IN_A_JOB = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "FLUX_JOB_ID")


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Makes stub commands and calls `candle submit` with them alone on PATH."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "train.py").touch()

    only_stubs = {"PATH": str(tmp_path / "bin"), "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def stub(name, body):
        path = tmp_path / "bin" / name
        log = f'printf "%s " "{name}" "$@" >> {tmp_path}/calls; echo >> {tmp_path}/calls\n'
        path.write_text(f"#!/bin/bash\n{log}{body}\n")
        path.chmod(0o755)

    def submit(*arguments, **variables):
        environment = {k: v for k, v in os.environ.items() if k not in IN_A_JOB}
        return subprocess.run(
            [sys.executable, "-m", "keras_candle", "submit", *arguments],
            cwd=tmp_path,
            env={**environment, **only_stubs, **variables},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def alone():
        for variable, value in only_stubs.items():
            monkeypatch.setenv(variable, value)

    submit.stub, submit.alone = stub, alone
    submit.calls = lambda: (tmp_path / "calls").read_text().splitlines()
    submit.folder = JobFolder(tmp_path / "candle-jobs" / "train")
    return submit


PRINTED = {
    "slurm": "echo '7;cluster'",
    "pbs": "echo 7.server",
    "lsf": "echo 'Job <7> is submitted to default queue <normal>.'; /bin/cat > script",
    "flux": "echo ƒ7",
}


@pytest.mark.parametrize("name", SUBMIT)
def test_the_scheduler_on_path_gets_the_script(name, cluster):
    cluster.stub(SUBMIT[name], PRINTED[name])
    done = cluster("--nodes", "2", "--ranks-per-node", "2", "train.py", "--epochs", "3")
    assert (done.returncode, done.stderr) == (0, "")
    facts = cluster.folder.facts()
    job = {"slurm": "7", "pbs": "7.server", "lsf": "7", "flux": "ƒ7"}[name]
    assert done.stdout == f"{BATCH_SYSTEMS[name].title} job {job}: candle-jobs/train\n"
    assert facts.pop("submitted_s") > 1e9
    assert facts == {
        "name": "train",
        "scheduler": name,
        "id": job,
        "directory": str(cluster.folder.path.parent.parent),
        "nodes": 2,
        "ranks": 4,
        "array": None,
        "command": ["train.py", "--epochs", "3"],
        "requeue_by": "command",
    }
    script = cluster.folder.script.read_text()
    assert "-np 4 -- train.py --epochs 3" in script
    if name == "lsf":
        assert (cluster.folder.path.parent.parent / "script").read_text() == script
    else:
        assert cluster.calls()[-1].endswith("candle-jobs/train/job.sh ")


def test_flux_gets_each_element_which_waits_for_the_one_before(cluster):
    cluster.stub("flux", 'echo "f${@: -1}"')
    done = cluster("--array", "3%2", "train.py")
    assert done.stdout == "Flux job f0 f1 f2: candle-jobs/train\n"
    facts = cluster.folder.facts()
    assert [each.removeprefix("flux batch ") for each in cluster.calls()] == [
        "candle-jobs/train/job.sh 0 ",
        "candle-jobs/train/job.sh 1 ",
        "--dependency=afterany:f0 candle-jobs/train/job.sh 2 ",
    ]
    assert (facts["id"], facts["ids"]) == (
        "f0",
        ["f0", "f1", "f2"],
    )


def test_a_dry_run_prints_the_script_and_the_origins_and_submits_nothing(cluster):
    cluster.stub("sbatch", "echo 7")
    path = cluster.folder.path.parent.parent / "candle.toml"
    path.write_text('account = "m1"\nsystem = "perlmutter"\n')
    done = cluster("--dry-run", "--walltime", "01:00:00", "train.py", SLURM_JOB_ID="3")
    assert done.returncode == 0
    assert "#SBATCH --time=01:00:00\n#SBATCH --account=m1\n" in done.stdout
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in done.stderr.splitlines()}
    assert rows["account"] == "m1 candle.toml"
    assert rows["walltime"] == "01:00:00 command line"
    assert rows["directives"] == "--constraint=gpu profile perlmutter, untested"
    assert rows["nodes"] == "1 default"
    assert rows["scheduler"] == "slurm profile perlmutter, untested"
    assert not cluster.folder.path.exists()
    assert not path.with_name("calls").exists()


def test_no_walltime_that_nobody_gave(cluster):
    done = cluster("--dry-run", "--scheduler", "slurm", "train.py")
    assert "--time" not in done.stdout
    assert "walltime         the queue's own" in done.stderr


def test_a_refusal_is_shown_in_the_schedulers_words_and_the_script_is_kept(cluster):
    cluster.stub("sbatch", "echo 'sbatch: error: invalid account nobody' >&2; exit 1")
    done = cluster("--account", "nobody", "train.py")
    assert done.returncode == 2
    assert done.stderr == (
        "candle: sbatch refused it: sbatch: error: invalid account nobody. The script is kept: "
        "candle-jobs/train/job.sh\n"
    )
    assert "--account=nobody" in cluster.folder.script.read_text()
    assert cluster.folder.facts()["id"] is None


def test_a_job_whose_id_cannot_be_kept_is_named_all_the_same(cluster):
    facts = cluster.folder.path / "job.json"
    cluster.stub("sbatch", f"/bin/rm {facts}; /bin/mkdir {facts}; echo 7")
    done = cluster("train.py")
    assert done.returncode == 2
    assert done.stdout == "Slurm job 7: candle-jobs/train\n"
    assert "the job was submitted, but its id cannot be written" in done.stderr


@pytest.mark.parametrize(
    ("stubs", "arguments", "variables", "expected"),
    [
        ((), (), {}, "there is no scheduler on PATH (sbatch, qsub, bsub, flux)"),
        (("sbatch",), ("--scheduler", "pbs"), {}, "there is no qsub on PATH, with which PBS takes"),
        (("sbatch", "flux"), (), {}, "there are sbatch (Slurm) and flux (Flux) on PATH"),
        (("sbatch",), (), {"SLURM_JOB_ID": "3"}, "inside of Slurm job 3"),
        (("sbatch",), (), {"LSB_JOBID": "3"}, "inside of LSF job 3"),
        (("sbatch",), ("--walltime", "1h"), {}, "walltime got '1h'"),
        (("sbatch",), ("--directive=--a\ndate",), {}, "has a newline"),
    ],
)
def test_a_job_that_cannot_be_submitted(stubs, arguments, variables, expected, cluster):
    for name in stubs:
        cluster.stub(name, "echo 7")
    done = cluster(*arguments, "train.py", **variables)
    assert done.returncode == 2
    assert expected in done.stderr
    assert not cluster.folder.path.exists()


WAITS = {
    "slurm": "echo '7|PENDING|Resources|'",
    "pbs": "echo '7.server me batch train -- 1 1 -- 01:00 Q --'",
    "lsf": "echo '7|0|PEND|-'",
}


@pytest.mark.parametrize("name", QUERY)
def test_the_folder_of_a_job_that_has_not_ended_is_not_taken(name, cluster):
    cluster.stub(SUBMIT[name], PRINTED[name])
    cluster("train.py")
    cluster.stub(QUERY[name], WAITS[name])
    done = cluster("train.py")
    title = BATCH_SYSTEMS[name].title
    assert done.returncode == 2
    assert f"candle-jobs/train belongs to {title} job 7" in done.stderr
    assert "which is queued. Give the new job another --name" in done.stderr
    cluster.stub(QUERY[name], "echo connection refused >&2; exit 1")
    assert "which is unknown (no answer)" in cluster("train.py").stderr
    cluster.stub(QUERY[name], "true")
    cluster.folder.log_attempt("start", None, 0)
    assert cluster("train.py").returncode == 0
    assert cluster.folder.attempts() == []
    (aside,) = cluster.folder.path.parent.glob("train-7*")
    assert len(JobFolder(aside).attempts()) == 1


def test_wait_returns_the_exit_code_of_the_last_start(cluster):
    cluster.stub("sbatch", "echo 7")
    cluster.stub("squeue", "echo '7|RUNNING|None|n1'")
    cluster("train.py")
    folder, polls = cluster.folder, []
    folder.log_attempt("start", None, 0)
    folder.log_attempt("end", None, 0, code=75)

    def sleep(_):
        polls.append(len(polls))
        if len(polls) == 1:
            folder.log_attempt("start", None, 1)
        elif len(polls) == 2:
            cluster.stub("squeue", "true")
        elif len(polls) == 4:  # the line comes late
            folder.log_attempt("end", None, 1, code=3)

    cluster.alone()
    assert wait(folder, None, poll_s=0, sleep=sleep) == 3
    assert len(polls) == 4


def test_wait_for_an_array_returns_the_largest_code(cluster):
    cluster.stub("sbatch", "echo 7")
    cluster.stub("squeue", "true")
    cluster("--array", "3", "train.py")
    for element, code in enumerate((0, 3)):
        cluster.folder.log_attempt("start", element, 0)
        cluster.folder.log_attempt("end", element, 0, code=code)
    cluster.alone()
    assert wait(cluster.folder, 2, sleep=lambda _: None) == 3
    assert wait(cluster.folder, 3, sleep=lambda _: None) == 3
    assert wait(cluster.folder, None, sleep=lambda _: None) == 1


def test_candle_run_records_its_start_and_its_end(candle, script, tmp_path):
    name = script(
        "from keras_candle.launcher_messages import notify_checkpoint\n"
        "if rank == 0:\n    notify_checkpoint(4)\nsys.exit(75)\n"
    )
    variables = {"KERAS_CANDLE_JOB": str(tmp_path), "KERAS_CANDLE_ELEMENT": "2/6"}
    for _ in range(2):
        assert candle("run", "-np", "2", name, **variables).returncode == 75
    lines = map(json.loads, (tmp_path / "attempts.jsonl").read_text().splitlines())
    assert [
        (x["event"], x["element"], x["restart"], x["code"], x["saved_steps"]) for x in lines
    ] == [
        ("start", 2, 0, None, []),
        ("end", 2, 0, 75, [4]),
        ("start", 2, 1, None, []),
        ("end", 2, 1, 75, [4]),
    ]


def test_a_full_disk_leaves_no_folder_behind(cluster, tmp_path):
    cluster.stub("sbatch", "echo 7")
    # As much as a disk that is full: no file may hold a byte.
    limited = "import resource, runpy, signal, sys\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
    limited += "sys.argv[:] = ['candle', 'submit', 'train.py']\n"
    limited += "runpy.run_module('keras_candle', run_name='__main__')\n"
    environment = {**os.environ, "PATH": str(tmp_path / "bin")}
    done = subprocess.run(
        [sys.executable, "-c", limited],
        cwd=tmp_path,
        env={k: v for k, v in environment.items() if k not in IN_A_JOB},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "candle-jobs/train cannot be written" in done.stderr
    assert not cluster.folder.path.exists()

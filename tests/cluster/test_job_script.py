"""Job scripts: golden files, and hostile names through a real bash."""

import dataclasses
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from keras_candle.cluster.job_script import BATCH_SYSTEMS, JobRequest, check, job_script
from tests.cluster.slurm import until

GOLDEN = Path(__file__).parent / "scripts"
SMALL = JobRequest(
    name="first",
    directory="/home/me/digits",
    python="/home/me/env/bin/python",
    program=("train.py", "--epochs", "10"),
    nodes=1,
    ranks_per_node=1,
    ranks=1,
)
LARGE = dataclasses.replace(
    SMALL,
    program=("-m", "digits.train"),
    nodes=2,
    ranks_per_node=4,
    ranks=7,
    gpus_per_rank=1,
    cores_per_rank=8,
    walltime_s=26 * 3600,
    account="m1234",
    queue="regular",
    directives=("--mail-type=END",),
    environment=("module load python", "export NCCL_DEBUG=INFO"),
    array=6,
    array_limit=2,
    run_options=("--engine", "mpi", "--max-restarts", "2"),
)
# The variables that each scheduler sets in a job's second element.
IN_A_JOB = {
    "slurm": {"SLURM_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1"},
    "pbs": {"PBS_JOBID": "7[1].server", "PBS_ARRAY_INDEX": "1"},
    "lsf": {"LSB_JOBID": "7", "LSB_JOBINDEX": "2"},
    "flux": {"FLUX_JOB_ID": "ƒ7"},
}
REQUEUE = {"slurm": "scontrol", "pbs": "qrerun", "lsf": "brequeue", "flux": "flux"}
systems = pytest.mark.parametrize("system", BATCH_SYSTEMS.values(), ids=BATCH_SYSTEMS)


def requests():
    for name in BATCH_SYSTEMS:
        yield f"{name}.sh", name, SMALL
        yield f"{name}-large.sh", name, LARGE
    yield "slurm-exit-code.sh", "slurm", dataclasses.replace(SMALL, requeue_by="exit-code")
    yield "lsf-exit-code.sh", "lsf", dataclasses.replace(SMALL, requeue_by="exit-code")
    yield "pbs-none.sh", "pbs", dataclasses.replace(SMALL, requeue_by="none")
    whole = dataclasses.replace(SMALL, nodes=2, ranks=2, whole_nodes=True, gpus_per_rank=1)
    yield "lsf-whole-nodes.sh", "lsf", whole
    chunk = dataclasses.replace(LARGE, chunk="system=polaris", directives=("-l filesystems=home",))
    yield "pbs-chunk.sh", "pbs", chunk
    yield "slurm-qos.sh", "slurm", dataclasses.replace(SMALL, queue="regular", queue_option="--qos")


@pytest.mark.parametrize(
    ("file", "name", "job"), list(requests()), ids=lambda value: str(value)[:24]
)
def test_a_script_is_the_golden_file(file, name, job):
    system = BATCH_SYSTEMS[name]
    check(system, job)
    # To write them anew: CANDLE_WRITE_GOLDEN=1
    if os.environ.get("CANDLE_WRITE_GOLDEN"):
        (GOLDEN / file).write_text(job_script(system, job))
    assert job_script(system, job) == (GOLDEN / file).read_text()


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.sh")), ids=lambda path: path.stem)
def test_bash_and_shellcheck_accept_the_golden_files(path):
    done = subprocess.run(["bash", "-n", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    if shutil.which("shellcheck"):
        done = subprocess.run(
            ["shellcheck", "--severity=warning", path], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (0, "")


def fake_python(folder: Path, code: int = 0) -> Path:
    """A program in Python's place that writes down its working directory, variables and words."""
    path = folder / "python 'of' $me"
    path.write_text(
        f"#!{sys.executable}\n"
        "import json, os, sys\n"
        "names = ('KERAS_CANDLE_JOB', 'KERAS_CANDLE_ELEMENT', 'KERAS_CANDLE_JOB_STARTED_S')\n"
        f"with open({str(folder / 'calls')!r}, 'a') as calls:\n"
        "    json.dump([os.getcwd(), [os.environ.get(n) for n in names], sys.argv[1:]], calls)\n"
        "    calls.write('\\n')\n"
        f"sys.exit({code})\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def run_script(system, job, folder):
    """Run a job's script in bash as its scheduler would, with the requeue command at hand."""
    (folder / "bin").mkdir(exist_ok=True)
    shutil.copy("/bin/true", folder / "bin" / REQUEUE[system.name])
    script = folder / "job.sh"
    script.write_text(job_script(system, job))
    # Of a `candle run` in the shell from which it was submitted.
    variables = {**IN_A_JOB[system.name], "KERAS_CANDLE_JOB_STARTED_S": "1.5"}
    return subprocess.run(
        ["bash", script, "1"],
        env={"PATH": f"{folder / 'bin'}:/usr/bin:/bin", **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


HOSTILE = (
    "$(touch bad)",
    "`touch bad`",
    "it's",
    'a "b"',
    "a\nb",
    "-n",
    "*",
    "~",
    "a;touch bad",
    "\\",
)


@systems
def test_hostile_names_reach_the_program_as_they_are(system, tmp_path):
    for number in range(len(HOSTILE)):
        words = HOSTILE[number:] + HOSTILE[:number]
        directory = tmp_path / f"{number}{''.join(words[:4])}"
        job = dataclasses.replace(
            SMALL,
            directory=str(directory),
            python=str(fake_python(tmp_path)),
            program=words,
            array=2,
        )
        check(system, job)
        (directory / job.folder).mkdir(parents=True)
        done = run_script(system, job, tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        run, requeue = map(json.loads, (tmp_path / "calls").read_text().splitlines())
        folder = str(directory / job.folder)
        assert run == [
            str(directory),
            [folder, "1/2", None],
            ["-m", "keras_candle", "run", "-np", "1", "--", *job.program],
        ]
        assert requeue == [
            str(directory),
            [folder, "1/2", None],
            ["-m", "keras_candle.cluster.requeue", folder, "0"],
        ]
        (tmp_path / "calls").unlink()
    assert not list(tmp_path.rglob("bad"))


@systems
def test_a_missing_requeue_command_is_refused_before_the_run(system, tmp_path):
    job = dataclasses.replace(
        SMALL, directory=str(tmp_path), python=str(fake_python(tmp_path)), array=2
    )
    (tmp_path / job.folder).mkdir(parents=True)
    script = tmp_path / "job.sh"
    script.write_text(job_script(system, job))
    (tmp_path / "empty").mkdir()
    done = subprocess.run(
        ["/bin/bash", script, "1"],
        env={"PATH": str(tmp_path / "empty"), **IN_A_JOB[system.name]},
        capture_output=True,
        text=True,
        check=False,
    )
    log = "" if system.name == "slurm" else (tmp_path / job.folder / "output-1.log").read_text()
    assert done.returncode == 2
    assert f"requeued by {REQUEUE[system.name]}, which is not on PATH" in done.stderr + log
    assert not (tmp_path / "calls").exists()


SAVES_ON_A_SIGNAL = f"""#!{sys.executable}
import json, os, signal, sys, time
if "run" in sys.argv:
    stops = []
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda number, frame: stops.append(number))
    open("ready", "w").close()
    while not stops:
        time.sleep(0.02)
    time.sleep(0.5)
    sys.exit(75)
with open("codes", "a") as codes:
    print(sys.argv[-1], file=codes)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("to_all", [False, True], ids=["to the script", "to all of the job"])
def test_the_script_waits_until_a_stopped_program_has_saved(number, times, to_all, tmp_path):
    python = tmp_path / "python"
    python.write_text(SAVES_ON_A_SIGNAL)
    python.chmod(0o755)
    job = dataclasses.replace(SMALL, directory=str(tmp_path), python=str(python))
    (tmp_path / "bin").mkdir()
    shutil.copy("/bin/true", tmp_path / "bin" / "scontrol")
    (tmp_path / "job.sh").write_text(job_script(BATCH_SYSTEMS["slurm"], job))
    script = subprocess.Popen(
        ["bash", tmp_path / "job.sh"],
        env={"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"},
        start_new_session=True,
    )
    until((tmp_path / "ready").exists, 30, lambda: "the program does not start")
    for _ in range(times):
        os.killpg(script.pid, number) if to_all else script.send_signal(number)
        time.sleep(0.1)
    assert script.wait(30) == 0
    assert (tmp_path / "codes").read_text() == "75\n"


def test_a_stop_before_the_program_begins_nothing_and_asks_for_a_requeue(tmp_path):
    environment = (f"touch {tmp_path}/ready", "sleep 1")
    job = dataclasses.replace(
        SMALL,
        directory=str(tmp_path),
        python=str(fake_python(tmp_path)),
        environment=environment,
        requeue_by="none",
    )
    (tmp_path / "job.sh").write_text(job_script(BATCH_SYSTEMS["slurm"], job))
    script = subprocess.Popen(["bash", tmp_path / "job.sh"], env={"PATH": "/usr/bin:/bin"})
    until((tmp_path / "ready").exists, 30, lambda: "the script does not start")
    script.send_signal(signal.SIGTERM)
    assert script.wait(30) == 0
    (call,) = map(json.loads, (tmp_path / "calls").read_text().splitlines())
    folder = str(tmp_path / job.folder)
    assert call[2] == ["-m", "keras_candle.cluster.requeue", folder, "75", "not-begun"]

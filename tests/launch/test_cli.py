"""What the `candle` command says, and what it must not import to say it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launch.conftest import CANDLE

FORBIDDEN = ("keras", "tensorflow", "keras_tuner", "numpy")
MODULES = (
    *("audit_precision", "check", "cli", "demo", "doctor", "horovod_build", "horovod_cmake"),
    *("rank", "run", "run_directories", "sandboxed_run", "verify"),
)


@pytest.mark.parametrize(
    "command", ["", "run", "check", "verify", "verify-resume", "build-horovod", "doctor", "demo"]
)
def test_help_begins_with_the_usage(candle, command):
    done = candle(*filter(None, [command]), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: candle")


def test_version(candle):
    assert candle("--version").stdout.startswith("candle ")


def test_the_package_run_by_python_is_the_command():
    command = Path(sys.executable).parent / "candle"
    for arguments, code in ((["--help"], 0), (["run", "-np", "0", "x.py"], 2)):
        ends = []
        for start in ([sys.executable, "-m", "keras_candle"], [command]):
            done = subprocess.run([*start, *arguments], capture_output=True, check=False)
            ends.append((done.returncode, done.stdout, done.stderr))
        assert ends[0] == ends[1]
        assert ends[0][0] == code


def test_no_part_of_the_launcher_imports_anything_heavy():
    imports = "; ".join(f"import keras_candle.launch.{name}" for name in MODULES)
    check = f"{imports}; import sys; print([n for n in {FORBIDDEN} if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-np", "2"), "no script"),
        (("-np", "2", "gone.py"), "no file 'gone.py'"),
        (("gone.py",), "no number of ranks"),
        (("-np", "0", "gone.py"), "-np got 0"),
        (("-np", "-3", "gone.py"), "-np got -3"),
        (("-np", "2", "-m"), "no module"),
        (("-np", "2", "--hosts", "a:0", "-m", "x"), "--hosts got 'a:0'"),
        (("-np", "2", "--hosts", "a b", "-m", "x"), "--hosts got 'a b'"),
        (("-np", "5", "--hosts", "a:2,b:2", "-m", "x"), "room for 4 ranks"),
    ],
)
def test_bad_usage_is_one_sentence(candle, arguments, words):
    done = candle("run", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("candle: ")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["--version", "check --no-run train.py", "run -np 1 train.py"])
def test_a_reader_that_has_ended_is_no_traceback(tmp_path, command):
    (tmp_path / "train.py").write_text("print('x')\n")
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*CANDLE, *command.split()],
        cwd=tmp_path,
        stdout=writing,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("arguments", [("-np", "two", "x.py"), ("--engine", "gloo", "x.py")])
def test_what_argparse_refuses_has_the_same_code(candle, arguments):
    assert candle("run", *arguments).returncode == 2


@pytest.mark.parametrize("command", ["run -np 1 train.py", "submit train.py", "status"])
def test_a_working_directory_that_was_removed_is_one_sentence(tmp_path, command):
    gone = tmp_path / "gone"
    gone.mkdir()
    done = subprocess.run(
        ["bash", "-c", f"rmdir $PWD && exec {' '.join(CANDLE)} {command}"],
        cwd=gone,
        env={**os.environ, "PWD": str(gone)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert f"candle: the working directory ({gone}) was removed" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_without_mpiexec_the_error_names_the_remedy(tmp_path):
    # An environment whose programs stand neither beside its interpreter nor beside its MPI.
    check = (
        "import os, sys; access = os.access; "
        "os.access = lambda path, *mode: 'mpiexec' not in str(path) and access(path, *mode); "
        "from keras_candle.launch.cli import main; "
        "sys.exit(main(['run', '-np', '1', '-m', 'this']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", check],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "pip install mpich" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_host_that_is_not_there_is_no_hang(candle, script):
    done = candle("run", "-np", "2", "--hosts", "localhost:1,no-such-host.invalid:1", script(""))
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1].startswith("candle: ")

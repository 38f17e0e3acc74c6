"""`candle run --auto` with programs that need no TensorFlow."""

from __future__ import annotations

import json
import os

import pytest

PRINT = "import json, os, sys\n"
DRAWS = """
import random, numpy
draws = [random.random(), numpy.random.random(), numpy.random.default_rng().random(),
         numpy.random.RandomState().random_sample()]
print(json.dumps(draws), flush=True)
"""
WRITES = """
import pathlib, shutil, tempfile
rank = os.environ["PMI_RANK"]
os.makedirs("made/deep")
for times in range(20):
    with open("made/deep/file.txt", "w") as file:
        file.write(rank * 1000)
    assert pathlib.Path("made/deep/file.txt").read_text() == rank * 1000
while rank != "0" and not (os.path.exists("lock") and os.path.getsize("lock")):
    pass  # root is first
lock = os.open("lock", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
text = "root's" if rank == "0" else rank
os.write(lock, text.encode())
os.close(lock)
assert pathlib.Path("lock").read_text() == text
os.rename("made/deep/file.txt", "made/renamed.txt")
# The others see the root's files too, those that it has written by then.
assert rank != "0" or sorted(os.listdir("made")) == ["deep", "renamed.txt"]
assert "renamed.txt" in [each.name for each in os.scandir("made")]
shutil.copy2("made/renamed.txt", "made/copy.txt")
shutil.rmtree("gone")
os.mkdir("gone")
os.chdir("made")
with tempfile.TemporaryDirectory() as folder:
    pathlib.Path(folder, "own").write_text(rank)
    assert os.listdir(folder) == ["own"]
print("done", flush=True)
"""


@pytest.fixture
def program(tmp_path):
    def write(body):
        (tmp_path / "program.py").write_text(PRINT + body)
        return "program.py"

    return write


def by_rank(done):
    assert done.returncode == 0, done.stderr
    return sorted(line.partition(" ")[::2] for line in done.stdout.splitlines())


def test_unseeded_draws_are_the_same_on_all_ranks_and_others_in_the_next_job(candle, program):
    draws = [
        by_rank(candle("run", "--auto", "-np", "2", "--all-output", program(DRAWS)))
        for _ in range(2)
    ]
    (_, first), (_, second) = draws[0]
    assert first == second
    assert draws[1][0][1] != first
    assert len(set(json.loads(first))) == 4


def test_the_users_seed_wins(candle, program):
    seeded = program("import numpy\nnumpy.random.seed(5)\nprint(numpy.random.random())\n")
    one = candle("run", "--auto", "-np", "1", seeded)
    assert candle("run", "--auto", "-np", "2", seeded).stdout == one.stdout


def test_on_one_rank_nothing_is_prepared(candle, program):
    told = program(
        "print([name for name in os.environ if 'CANDLE' in name])\n"
        "print([type(finder).__name__ for finder in sys.meta_path], open, os.mkdir)\n"
        "print([name for name in sys.modules if 'auto' in name or 'numpy' in name])\n"
    )
    plain, auto = (candle("run", *given, "-np", "1", told) for given in ([], ["--auto"]))
    assert auto.stdout == plain.stdout


def test_modules_named_by_the_variable_are_prepared_too(candle, program, tmp_path):
    (tmp_path / "first.py").write_text("def prepare(): print('first')\n")
    variables = {
        "KERAS_CANDLE_PREPARE": "first",
        "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}",
    }
    done = candle("run", "--auto", "-np", "2", program("print('program')\n"), **variables)
    assert done.stdout == "first\nprogram\n"


def test_the_roots_files_are_real_and_the_others_read_their_own(candle, program, tmp_path):
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone/old.txt").write_text("old")
    done = candle("run", "--auto", "-np", "3", "--all-output", program(WRITES))
    assert [text for _, text in by_rank(done)] == ["done"] * 3
    left = {
        str(path.relative_to(tmp_path)): path.read_text()
        for folder in ("made", "gone")
        for path in (tmp_path / folder).rglob("*")
        if path.is_file()
    }
    assert left == {"made/renamed.txt": "0" * 1000, "made/copy.txt": "0" * 1000}


def test_a_script_for_horovod_is_refused(candle, program, tmp_path):
    (tmp_path / "horovod/tensorflow").mkdir(parents=True)
    for module in ("__init__.py", "tensorflow/__init__.py"):
        (tmp_path / "horovod" / module).touch()
    (tmp_path / "horovod/tensorflow/keras.py").write_text("def init(): print('started')\n")
    script = program("import horovod.tensorflow.keras as hvd\nhvd.init()\n")
    assert candle("run", "-np", "2", script).stdout == "started\n"
    done = candle("run", "--auto", "-np", "2", script)
    assert done.returncode == 1
    assert "calls hvd.init(): it is written for Horovod" in done.stderr

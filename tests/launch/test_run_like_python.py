"""A program under `candle run` finds what it finds under plain python."""

import json
import subprocess
import sys

import pytest

FACTS = "import json; print(json.dumps([sys.argv, sys.path[0], os.getcwd(), __name__, __file__]))\n"


def plain_python(tmp_path, *arguments):
    environment = {"PMI_RANK": "0"}
    return json.loads(
        subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            timeout=30,
            check=True,
        ).stdout
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("program.py",),
        ("program.py", "-np", "3", "--engine", "x", "a b", "$HOME", "-m", "--"),
        ("sub/program.py", "--help"),
        ("-m", "sub.program", "-np", "7"),
    ],
)
def test_arguments_and_places(candle, script, tmp_path, arguments):
    (tmp_path / "sub").mkdir()
    script(FACTS)
    script(FACTS, "sub/program.py")
    done = candle("run", "-np", "1", *arguments)
    assert json.loads(done.stdout) == plain_python(tmp_path, *arguments)


def test_a_script_imports_its_neighbours_and_is_main(candle, script, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "neighbour.py").write_text("word = 'hello'\n")
    body = "import neighbour, pickle\nclass A: pass\npickle.loads(pickle.dumps(A()))\n"
    done = candle("run", "-np", "1", script(body + "print(neighbour.word)\n", "sub/p.py"))
    assert (done.stdout, done.stderr) == ("hello\n", "")


def test_root_alone_speaks(candle, script):
    done = candle("run", "-np", "3", script("print(rank)\nprint(rank, file=sys.stderr)\n"))
    assert (done.stdout, done.stderr) == ("0\n", "0\n")


def test_native_output_of_other_ranks_is_silent_too(candle, script):
    done = candle("run", "-np", "2", script("os.write(1, b'%d' % rank)\nos.system('echo sub')\n"))
    assert done.stdout == "0sub\n"


def test_all_output_labels_every_line(candle, script):
    program = script("print('this', 'is', rank)\n")
    done = candle("run", "-np", "2", "--all-output", program, PYTHONUNBUFFERED="1")
    assert sorted(done.stdout.splitlines()) == ["[0] this is 0", "[1] this is 1"]


def test_all_output_shows_a_failure_once(candle, script):
    body = "print('up', flush=True)\nif rank == 1: raise ValueError('x')\ntime.sleep(60)\n"
    done = candle("run", "-np", "2", "--all-output", script(body))
    assert done.stderr.count("Traceback") == 1
    assert "\x1e" not in done.stderr


def test_ranks_share_the_cores_unless_told_otherwise(candle, script):
    names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "PYTHONHASHSEED")
    program = script(f"print(*(os.environ.get(name) for name in {names}))\n")
    shared = candle("run", "-np", "2", program, OMP_NUM_THREADS="5", TF_NUM_INTRAOP_THREADS="6")
    assert shared.stdout == "5 6 0\n"
    crowded = candle("run", "-np", "3", program).stdout.split()
    assert crowded[0] == crowded[1]
    assert int(crowded[0]) >= 1


def test_ranks_hear_of_the_engine(candle, script):
    program = script("print(os.environ.get('KERAS_CANDLE_ENGINE'))\n")
    assert candle("run", "-np", "1", "--engine", "mpi", program).stdout == "mpi\n"
    assert candle("run", "-np", "1", program).stdout == "None\n"


def test_root_reads_standard_input(script, tmp_path):
    command = [sys.executable, "-m", "keras_candle.launch.cli", "run", "-np", "2"]
    program = script("print(sys.stdin.read().upper() if rank == 0 else '')\n")
    done = subprocess.run(
        [*command, program],
        cwd=tmp_path,
        input=b"told",
        capture_output=True,
        timeout=30,
        check=True,
    )
    assert done.stdout == b"TOLD\n"

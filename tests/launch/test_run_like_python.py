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


def test_the_garbage_collector_waits_while_tensorflow_is_imported(candle, script, tmp_path):
    (tmp_path / "tensorflow.py").write_text("import gc\ncollects = gc.isenabled()\n")
    body = "import gc, tensorflow\nprint(tensorflow.collects, gc.isenabled())\n"
    assert candle("run", "-np", "1", script(body)).stdout == "False True\n"


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


def test_ranks_share_the_cores_unless_the_user_sets_threads(candle, script):
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


READS = "print(rank, len(sys.stdin.buffer.read()), flush=True)\n"


def run_with(stdin, tmp_path, *arguments):
    command = [sys.executable, "-m", "keras_candle.launch.cli", "run", *arguments]
    return subprocess.run(
        command, cwd=tmp_path, stdin=stdin, capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize("hosts", [(), ("--hosts", "127.0.0.1:1,localhost:1")])
@pytest.mark.parametrize("size", [0, 4, 5_000_000])
def test_root_reads_standard_input_and_the_other_ranks_see_its_end(script, tmp_path, size, hosts):
    (tmp_path / "input").write_bytes(b"x" * size)
    with subprocess.Popen(["cat", "input"], cwd=tmp_path, stdout=subprocess.PIPE) as cat:
        done = run_with(cat.stdout, tmp_path, "-np", "2", "--all-output", *hosts, script(READS))
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.splitlines()) == [f"[0] 0 {size}", "[1] 1 0"]


@pytest.mark.parametrize("body", ["time.sleep(0.5)\n", "sys.stdin.read(3)\n"])
def test_unread_standard_input_ends_no_job(script, tmp_path, body):
    (tmp_path / "input").write_bytes(b"x" * 5_000_000)
    with subprocess.Popen(["cat", "input"], cwd=tmp_path, stdout=subprocess.PIPE) as cat:
        done = run_with(cat.stdout, tmp_path, "-np", "2", script(body + "print('end')\n"))
        cat.stdout.close()
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def test_what_root_leaves_of_a_file_the_next_command_reads(script, tmp_path):
    (tmp_path / "input").write_text("first\nsecond\n")
    with (tmp_path / "input").open() as file:
        done = run_with(file, tmp_path, "-np", "2", script("print(os.read(0, 6))\n"))
        rest = subprocess.run(["cat"], stdin=file, capture_output=True, check=True).stdout
    assert (done.stdout, rest) == ("b'first\\n'\n", b"second\n")


def test_standard_input_that_is_closed(script, tmp_path):
    command = f"exec {sys.executable} -m keras_candle.launch.cli run -np 2 {script(READS)} <&-"
    done = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, capture_output=True, timeout=30, check=True
    )
    assert (done.stdout, done.stderr) == (b"0 0\n", b"")

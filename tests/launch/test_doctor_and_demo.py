"""What `candle doctor` and `candle demo` say about what they find."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from keras_candle.launch import demo, doctor

ONE = demo.DemoTraining(1, 0.97, 1000.0, True)
TWO = demo.DemoTraining(2, 0.98, 1500.0, True)


def command(name: str, site: Path, path: str) -> subprocess.CompletedProcess[str]:
    """`candle NAME` in an environment that has nothing but what lies in `site`."""
    check = (
        f"import sys; sys.prefix = '/nowhere'; import keras_candle; sys.path[:] = "
        f"[{str(site)!r}, *(p for p in sys.path if 'site-packages' not in p)]; "
        f"from keras_candle.launch.cli import main; sys.exit(main([{name!r}]))"
    )
    return subprocess.run(
        [sys.executable, "-c", check],
        env={"PATH": path, "KERAS_CANDLE_CACHE": str(site)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_where_nothing_is_installed_the_doctor_prints_remedies(tmp_path):
    done = command("doctor", tmp_path, path=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr == ""
    remedies = done.stdout.split("What to do:")[1]
    for remedy in ("keras-candle[cpu]", "pip install mpi4py", "candle build-horovod", "g++ make"):
        assert remedy in remedies


def test_a_broken_engine_is_one_line_with_its_reason(monkeypatch):
    job = doctor.Job(2, ("-c", "x"))
    monkeypatch.setattr(doctor, "Job", lambda *_, **__: job)
    finding = doctor.try_engine("mpi", 30.0)
    assert finding.state == doctor.BROKEN
    assert "rank" in finding.detail
    assert "candle run -np 2" in finding.remedy


def test_an_engine_that_hangs_is_stopped(monkeypatch, tmp_path):
    program = tmp_path / "hang.py"
    program.write_text("import time\ntime.sleep(60)\n")
    job = doctor.Job(2, (str(program),))
    monkeypatch.setattr(doctor, "Job", lambda *_, **__: job)
    finding = doctor.try_engine("mpi", 1.0)
    assert finding.state == doctor.BROKEN
    assert "did not end within 1 s" in finding.detail


def test_the_doctor_sees_the_launcher_around_it():
    seen = {finding.name: finding for finding in doctor.surroundings({"PMI_RANK": "1", "X": "2"})}
    assert seen["launcher"].detail == "PMI_RANK=1"


def test_columns_are_aligned():
    table = doctor.table(
        [doctor.Diagnosis("a", "ok", "1"), doctor.Diagnosis("bbb", "missing", "2")]
    )
    assert table.splitlines() == ["a    ok       1", "bbb  missing  2"]


def test_without_scikit_learn_the_demo_names_its_extra(tmp_path):
    done = command("demo", tmp_path, path=str(tmp_path))
    assert done.returncode == 2
    assert "keras-candle[demo]" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("code", "told"), [(0, {"digits": ONE}), (3, {})])
def test_the_demo_reads_what_root_wrote_down(monkeypatch, tmp_path, code, told):
    program = tmp_path / "training.py"
    facts = {"size": 1, "accuracy": 0.97, "samples_per_s": 1000.0, "weights_equal": True}
    facts = [{"dataset": "digits", **facts}]
    program.write_text(
        f"import json, sys\nopen(sys.argv[-1], 'w').write({json.dumps(facts)!r})\nsys.exit({code})"
    )
    monkeypatch.setattr(demo, "PROGRAM", (str(program),))
    assert demo.train(["digits"], "single", 1) == told


def test_the_demo_ends_with_its_report(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    line = {"time_s": 1e9, "event": "epoch", "fit": 0, "epoch": 1, "step": 3, "logs": {"loss": 1.5}}
    (tmp_path / "runs/digits on 2 (mpi)").mkdir(parents=True)
    (tmp_path / "runs/digits on 2 (mpi)/journal.jsonl").write_text(json.dumps(line))
    demo.report(tmp_path / "runs")
    page = Path(capsys.readouterr().out.split()[-1])
    assert "digits on 2 (mpi)" in page.read_text()


@pytest.mark.parametrize(
    ("one", "two", "words"),
    [
        (ONE, TWO, "1000, 1500 (x 1.50)"),
        (ONE, None, "failed on 2 ranks"),
        (None, TWO, "failed on 1 rank"),
        (ONE, demo.DemoTraining(2, 0.9, 1.0, False), "NO"),
    ],
)
def test_a_row_of_the_demo(one, two, words):
    assert words in demo.row("digits", "mpi", one, two)

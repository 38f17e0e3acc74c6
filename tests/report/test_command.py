"""`candle report` on the command line."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from keras_candle.launch.cli import main


@pytest.fixture
def run(tmp_path):
    line = {"time_s": 1e9, "event": "epoch", "fit": 0, "epoch": 1, "step": 3, "logs": {"loss": 1.5}}
    (tmp_path / "journal.jsonl").write_text(json.dumps(line))
    return tmp_path


def test_it_prints_the_path_and_a_line(run, capsys):
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        str(run / "report.html"),
        "1 run with 1 epoch and 0 restarts",
    ]
    assert main(["report", str(run), "-o", str(run / "other.html")]) == 0
    assert (run / "other.html").is_file()


def test_what_is_no_run_is_bad_usage(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert "neither a run nor a search. Expected the run directory" in capsys.readouterr().err


def test_it_imports_no_framework(run):
    program = (
        "import sys; from keras_candle.launch.cli import main; main(['report', sys.argv[1]]);"
        "print(sorted({'keras', 'tensorflow', 'numpy', 'keras_tuner', 'h5py'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", program, str(run)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert printed.splitlines()[-1] == "[]"

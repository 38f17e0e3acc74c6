"""`candle checkpoints` on a run that was trained."""

from __future__ import annotations

import pytest

from keras_candle.launch import cli
from tests.callback import cases


@pytest.fixture
def run(tmp_path):
    cases.small_fit(tmp_path / "a run", epochs=3)
    return tmp_path / "a run"


def test_ls_verify_and_rollback(run, capfd):
    assert cli.main(["checkpoints", "ls", str(run)]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert [line.split()[:4] for line in lines[1:]] == [
        ["2", "1", "0", "1"],
        ["4", "2", "0", "1"],
        ["6", "3", "0", "1"],
    ]
    place = run / "checkpoints" / "step-00000006" / "state.json"
    place.write_text(place.read_text().replace("1", "2", 1))
    assert cli.main(["checkpoints", "verify", str(run)]) == 1
    out = capfd.readouterr().out.splitlines()
    assert [line.endswith("whole") for line in out] == [True, True, False]
    assert "state.json: it differs" in out[2]
    assert cli.main(["checkpoints", "rollback", str(run), "2"]) == 0
    assert "resumes from step 2; set 2 newer checkpoints aside" in capfd.readouterr().out
    assert cli.main(["checkpoints", "rollback", str(run), "4"]) == 1
    assert "no checkpoint of step 4, only of [2]" in capfd.readouterr().err


def test_what_is_no_run_directory(tmp_path, capfd):
    assert cli.main(["checkpoints", "ls", str(tmp_path)]) == cli.BAD_USAGE
    assert "is not a run directory" in capfd.readouterr().err


def test_rollback_needs_a_step(run, capfd):
    assert cli.main(["checkpoints", "rollback", str(run)]) == cli.BAD_USAGE
    assert "takes a step" in capfd.readouterr().err

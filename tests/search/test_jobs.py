"""Searches on real ranks: nothing is run twice, nothing is lost when a rank dies, all agree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.search.search_job import main

ROOT = Path(__file__).parents[2]
JOB = Path(__file__).with_name("search_job.py")


def run(ranks, folder, **asked):
    command = [sys.executable, "-m", "keras_candle.launch.cli", "run", "-np", str(ranks), str(JOB)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, json.dumps(asked)],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip


def told(folder):
    files = sorted(folder.glob("told-*.json"))
    found = [json.loads(file.read_text()) for file in files]
    for file in files:
        file.unlink()
    return found


def trials(folder):
    files = sorted(folder.glob("runs/search/trial_*/trial.json"))
    return [json.loads(file.read_text()) for file in files]


def values(folder):
    return [
        json.dumps(each["hyperparameters"]["values"], sort_keys=True) for each in trials(folder)
    ]


def test_a_finite_space_is_tried_whole_once_and_every_rank_stops(ranks, tmp_path):
    asked = {"space": "small", "max_trials": 40, "folder": str(tmp_path)}
    of_ranks = ranks(3).run(main, asked=asked)
    assert len(set(values(tmp_path))) == len(values(tmp_path)) == 18
    assert sum(each["ran"] for each in of_ranks) == 18
    assert [each["trials"] for each in of_ranks] == [18] * 3
    assert len({json.dumps(each["best"]) for each in of_ranks}) == 1


@pytest.mark.parametrize("scaled", [False, True])
def test_a_killed_rank_loses_one_trial_which_another_runs_and_the_search_goes_on(tmp_path, scaled):
    done = run(3, tmp_path, space="wide", max_trials=18, sleep_s=0.3, killed="0", scaled=scaled)
    assert done.returncode == 137
    assert "was killed by SIGKILL" in done.stderr
    before = values(tmp_path)
    assert len(set(before)) == 18
    assert [each["trials"] for each in told(tmp_path)] == [18, 18]
    # Whoever is left tells of the end.
    project = tmp_path / "runs/search"
    assert len(json.loads((project / "insight.json").read_text())["table"]) == 18
    assert len(json.loads((project / "oracle.json").read_text())["end_order"]) == 18

    done = run(2, tmp_path, space="wide", max_trials=24, sleep_s=0.0)
    assert done.returncode == 0, done.stderr
    assert values(tmp_path)[:18] == before
    assert len(set(values(tmp_path))) == 24
    assert sum(each["ran"] for each in told(tmp_path)) == 6


def test_a_rank_that_leaves_and_lives_on_leaves_its_trial_to_the_others(ranks, tmp_path):
    asked = {"space": "wide", "max_trials": 15, "folder": str(tmp_path), "sleep_s": 0.1}
    one, left, other = ranks(3).run(main, asked={**asked, "leaves": "1"})
    assert left is None
    assert one["trials"] == other["trials"] == len(set(values(tmp_path))) == 15
    # Two trials of the rank that left: the first one is its own.
    assert one["ran"] + other["ran"] == 14


def test_failures_are_kept_and_the_search_goes_on(ranks, tmp_path):
    asked = {"space": "small", "max_trials": 18, "folder": str(tmp_path), "fails": 1}
    assert [each["trials"] for each in ranks(2).run(main, asked=asked)] == [18] * 2
    failed = [each for each in trials(tmp_path) if each["status"] == "FAILED"]
    assert len(failed) == 6
    assert all("this one is never good" in each["message"] for each in failed)


def test_ranks_that_cannot_be_divided_are_refused_before_the_first_trial(ranks, tmp_path):
    asked = {"space": "small", "max_trials": 4, "folder": str(tmp_path)}
    for error in ranks(3).errors(main, asked={**asked, "options": {"ranks_per_trial": 2}}):
        assert "there are 3 ranks, which cannot be divided into groups of 2" in error
    assert not trials(tmp_path)

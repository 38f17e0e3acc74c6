"""Journals, claims, and what they say together."""

from __future__ import annotations

import ast
import itertools
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import keras_tuner
import pytest

from keras_candle.cluster.job_folder import JobFolder
from keras_candle.errors import SearchError
from keras_candle.launcher_messages import JOB, STARTED_S
from keras_candle.search import project
from keras_candle.search.coordinator import Coordinator
from keras_candle.search.groups import Group
from keras_candle.search.leases import LeaseHeartbeat, Leases, has_exited, owner
from keras_candle.search.options import SearchOptions
from keras_candle.search.project import empty_project
from keras_candle.search.trial_log import Journal, JournalReader, TrialLog

HERE = owner()


def started(trial="0000", start=1, time_s=0.0):
    return {"event": "started", "trial": trial, "start": start, "values": {"x": 1}, "subspace": 0,
            "time_s": time_s, "owner": HERE}  # fmt: skip


def ended(trial="0000", start=1, status="COMPLETED", time_s=1.0, score=0.5):
    return {"event": "ended", "trial": trial, "start": start, "status": status, "time_s": time_s,
            "score": score}  # fmt: skip


def test_everyone_reads_what_each_has_written_once(tmp_path):
    readers = JournalReader(tmp_path)
    one, two = Journal(tmp_path, "a"), Journal(tmp_path, "b")
    one.append("x", n=1)
    two.append("x", n=2)
    assert sorted(line["n"] for line in readers.new_lines()) == [1, 2]
    two.append("x", n=3)
    assert [line["n"] for line in readers.new_lines()] == [3]
    assert readers.new_lines() == []


def test_a_line_is_read_when_its_end_is_there(tmp_path):
    journal, readers = tmp_path / "a.jsonl", JournalReader(tmp_path)
    journal.write_bytes(b'{"n": 1}\n{"n": ')
    assert readers.new_lines() == [{"n": 1}]
    with journal.open("ab") as file:
        file.write(b"2}\nnot json\n")
    assert readers.new_lines() == [{"n": 2}]


LINES = [
    started(), ended(status="INVALID"), started(start=2), ended(start=2, time_s=3.0),
    started("0001"), {"event": "found", "hyperparameters": ["hp"]},
]  # fmt: skip


@pytest.mark.parametrize("order", list(itertools.permutations(range(len(LINES))))[::37])
def test_the_ledger_is_the_same_in_any_order_of_the_journals(order):
    ledger = TrialLog()
    for place in order:
        ledger.take([LINES[place]])
    assert ledger.trials["0000"].status == "COMPLETED"
    assert ledger.trials["0000"].tries == 1
    assert ledger.trials["0001"].status == "RUNNING"
    assert ledger.hyperparameters == ["hp"]


@pytest.mark.parametrize("first", [1, 2])
def test_two_results_of_one_trial_count_once_and_the_same_everywhere(first):
    ends = {1: ended(start=1, score=0.1), 2: ended(start=2, score=0.2)}
    ledger = TrialLog()
    ledger.take([started(), started(start=2), ends[first], ends[3 - first]])
    assert ledger.trials["0000"].end["score"] == 0.1


def test_of_many_who_claim_a_trial_one_gets_it(tmp_path):
    leases = Leases(tmp_path, lease_s=60)
    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(lambda _: leases.claim_trial("0000"), range(64))) == 1
        assert sum(pool.map(lambda _: leases.claim_attempt("0000", 2), range(64))) == 1


def test_of_many_who_claim_a_point_one_gets_it(tmp_path):
    leases = Leases(tmp_path, lease_s=60)
    with ThreadPoolExecutor(16) as pool:
        got = list(pool.map(lambda n: leases.claim_point(b"p", f"{n:04d}", {"x": n}), range(64)))
    assert sum(got) == 1
    assert leases.claimed_points() == [
        {"trial": f"{got.index(True):04d}", "values": {"x": got.index(True)}}
    ]


def test_a_process_that_has_ended_is_gone():
    program = (
        "from keras_candle.search.leases import owner; import json; print(json.dumps(owner()))"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert has_exited(ast.literal_eval(told.stdout.decode()))
    assert not has_exited(HERE)
    assert has_exited({**HERE, "began": HERE["began"] - 1})  # its number was used again
    assert not has_exited({**HERE, "host": "another-node"})


def test_a_running_trial_gives_signs_of_life(tmp_path):
    leases = Leases(tmp_path, lease_s=60)
    leases.claim_trial("0000")
    os.utime(tmp_path / "trial_0000", (0, 0))
    assert leases.has_expired("0000")
    signs = LeaseHeartbeat(every_s=0.01)
    signs.begin(tmp_path / "trial_0000")
    while leases.has_expired("0000"):
        time.sleep(0.01)
    signs.end(tmp_path / "trial_0000")


def test_a_folder_is_emptied_once_in_a_job_of_several_ranks(tmp_path, monkeypatch):
    monkeypatch.setenv(STARTED_S, "1.5")
    folder = tmp_path / "search"
    folder.mkdir()
    (folder / "old").touch()
    empty_project(folder, Group(0, 2), first=True)
    assert [each.name for each in folder.iterdir()] == [".job"]
    (folder / "new").touch()
    with pytest.raises(SearchError, match="was used before"):
        empty_project(folder, Group(0, 2), first=True)
    assert (folder / "new").exists()
    empty_project(folder, Group(), first=True)
    assert not (folder / "new").exists()


def test_a_job_that_is_requeued_keeps_its_search(tmp_path, monkeypatch):
    folder = tmp_path / "search"
    monkeypatch.setenv(JOB, str(tmp_path))
    submitted = JobFolder(tmp_path)
    for number, (submitted_s, is_kept) in enumerate([(1.5, False), (1.5, True), (2.5, False)]):
        submitted.write_facts({"submitted_s": submitted_s, "id": str(number)})
        monkeypatch.setattr(project, "_EMPTIED", set())  # as in a new process
        empty_project(folder, Group(), first=True)
        assert (folder / "trial").exists() == is_kept
        (folder / "trial").touch()


def test_an_element_of_an_array_empties_no_folder(tmp_path):
    (tmp_path / "trial").touch()
    with pytest.raises(SearchError, match="array of 6 jobs: each starts by itself"):
        empty_project(tmp_path, Group(0, 6, elements=6), first=True)
    assert (tmp_path / "trial").exists()


def test_a_claim_that_was_never_started_is_found(tmp_path):
    leases = Leases(tmp_path, lease_s=60)
    leases.claim_trial("0000")
    leases.claim_trial("0001")
    assert leases.unstarted({"0001"}) == ["0000"]
    assert not leases.has_expired("0000")
    assert leases.claim_attempt("0000", leases.last_attempt("0000") + 1)
    assert leases.last_attempt("0000") == 2
    leases.release("0000")
    assert leases.unstarted({"0001"}) == []


@pytest.mark.parametrize("found", ["claimed a start", "claimed a point", "claimed a trial"])
def test_what_a_dead_group_had_only_claimed_is_run_by_another(tmp_path, found):
    leases = Leases(tmp_path, lease_s=1)
    leases.claim_trial("0000")
    if found == "claimed a point":
        leases.claim_point(b"p", "0000", {"x": 0.25})
    if found == "claimed a start":
        leases.claim_attempt("0000", 2)
    os.utime(tmp_path / "trial_0000", (0, 0))
    space = keras_tuner.HyperParameters()
    space.Float("x", 0.0, 1.0)
    coordinator = Coordinator(Group(), SearchOptions(lease_s=1), 1, max_trials=1, seed=0)
    coordinator.candidates.set_space(space)
    coordinator.begin(tmp_path, {}, space)
    assert not coordinator.is_over()
    trial, values = coordinator.next("a")
    assert trial == "0000"
    assert found != "claimed a point" or values == {"x": 0.25}
    coordinator.read()
    assert coordinator.trial_log.trials["0000"].status == "RUNNING"

"""What has become of jobs: the scheduler's words, its silence, and the job's own folder."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from keras_candle.cluster.job_folder import JobFolder
from keras_candle.cluster.status import (
    QUEUES,
    Answer,
    Phase,
    QueueEntry,
    SchedulerView,
    Status,
    statuses,
)

SLURM = QUEUES["slurm"]
# As Slurm 22.05 printed it.
SQUEUE = """\
1_4|PENDING|JobArrayTaskLimit|
2|PENDING|Resources|
3|PENDING|JobHeldUser|
1_0|COMPLETED|None|n1
1_2|RUNNING|None|n1
4|RUNNING|None|n[1-2]
"""
# Of the manuals: these schedulers were not at hand.
QSTAT = """

server1:
                                                            Req'd  Req'd   Elap
Job ID          Username Queue    Jobname    SessID NDS TSK Memory Time  S Time
--------------- -------- -------- ---------- ------ --- --- ------ ----- - -----
17.server1      user1    workq    train       12345   2   8    --  02:00 R 00:12
18[].server1    user1    workq    sweep         --    1   4    --  02:00 B   --
18[3].server1   user1    workq    sweep       12399   1   4    --  02:00 X 00:05
"""
BJOBS = """\
17|0|RUN|-
18|1|PEND|New job is waiting for scheduling
18|2|EXIT|-
"""
FLUX = """\
ƒ2kXo|RUN|node[1-2]
ƒ2kXq|SCHED|
"""


def test_slurms_list_is_read() -> None:
    assert SLURM.read(SQUEUE) == [
        QueueEntry("1", 4, "PENDING", "JobArrayTaskLimit"),
        QueueEntry("2", None, "PENDING", "Resources"),
        QueueEntry("3", None, "PENDING", "JobHeldUser"),
        QueueEntry("1", 0, "COMPLETED", "n1"),
        QueueEntry("1", 2, "RUNNING", "n1"),
        QueueEntry("4", None, "RUNNING", "n[1-2]"),
    ]


@pytest.mark.parametrize(
    ("scheduler", "printed", "expected"),
    [
        ("slurm", "7|CANCELLED by 1000\n", [("7", None, "cancelled")]),
        (
            "pbs",
            QSTAT,
            [("17", None, "running"), ("18", None, "running"), ("18", 3, "finished")],
        ),
        ("lsf", BJOBS, [("17", None, "running"), ("18", 0, "queued"), ("18", 1, "failed")]),
        ("flux", FLUX, [("ƒ2kXo", None, "running"), ("ƒ2kXq", None, "queued")]),
        ("slurm", "\n", []),
        ("slurm", "slurm_load_jobs error: nothing", []),
    ],
)
def test_each_schedulers_list_is_read(scheduler, printed, expected) -> None:
    queue = QUEUES[scheduler]
    found = queue.read(printed)
    assert [(each.job, each.element, queue.state_of(each.word).name) for each in found] == expected


@pytest.mark.parametrize(
    ("scheduler", "job", "element", "expected"),
    [
        ("slurm", "12", 3, "12_3"),
        ("pbs", "12[].server", 3, "12[3].server"),
        ("lsf", "12", 0, "12[1]"),
        ("slurm", "12", None, "12"),
    ],
)
def test_an_element_is_named_as_the_scheduler_names_it(scheduler, job, element, expected) -> None:
    assert QUEUES[scheduler].id_of(job, element) == expected


def test_every_word_that_is_no_plain_end_has_a_meaning_of_its_own() -> None:
    words = ("COMPLETING", "PREEMPTED", "REQUEUED", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL")
    states = [SLURM.state_of(word) for word in words]
    assert len({each.name for each in states}) == len({each.meaning for each in states}) == 6
    assert [each.phase for each in states[:3]] == [Phase.RUNNING, Phase.ENDED, Phase.WAITING]


@pytest.mark.parametrize("queue", QUEUES.values(), ids=str)
def test_a_word_in_no_table_is_shown_and_has_not_ended(queue) -> None:
    state = queue.state_of("NEW_WORD")
    assert (state.name, state.phase) == ("unknown (NEW_WORD)", Phase.UNKNOWN)


@pytest.fixture
def job(tmp_path: Path) -> JobFolder:
    (tmp_path / "train").mkdir()
    folder = JobFolder(tmp_path / "train")
    folder.write_facts({"scheduler": "slurm", "id": "7", "submitted_s": 1.0, "array": None})
    return folder


def status(folder: JobFolder, *entries: QueueEntry, error: str = "") -> Status:
    return statuses(folder, SLURM, Answer(time.time() + 1, entries, error))[0]


@pytest.mark.parametrize(
    ("word", "code", "expected"),
    [
        # Forgotten: the folder decides.
        (None, 0, "completed"),
        (None, 3, "failed"),
        (None, 75, "saved"),
        (None, None, "lost"),
        (None, "never", "forgotten"),
        # In the queue the scheduler decides.
        ("RUNNING", None, "running"),
        ("RUNNING", 75, "running"),
        ("PENDING", "never", "queued"),
        ("PENDING", 75, "requeued"),
        ("NEW_WORD", 0, "unknown (NEW_WORD)"),
        # Afterwards the job's code says more than "failed", and the scheduler's cause more than it.
        ("FAILED", 75, "saved"),
        ("FAILED", "never", "failed"),
        ("COMPLETED", 0, "completed"),
        ("NODE_FAIL", None, "node failed"),
        ("TIMEOUT", 75, "out of time"),
        ("CANCELLED", 75, "cancelled"),
    ],
)
def test_the_scheduler_decides_and_then_the_jobs_own_end(job, word, code, expected) -> None:
    if code != "never":
        job.log_attempt("start", None, 0)
    if isinstance(code, int):
        job.log_attempt("end", None, 0, code=code, saved_steps=[40])
    entries = [] if word is None else [QueueEntry("7", None, word)]
    assert status(job, *entries).state.name == expected


def test_a_job_that_was_cancelled_is_no_failure(job) -> None:
    job.log_attempt("start", None, 0)
    job.log_attempt("end", None, 0, code=75, saved_steps=[10, 20])
    job.cancel()
    found = status(job, QueueEntry("7", None, "FAILED"))
    assert (found.state.name, found.detail) == ("cancelled", "saved at step 20")


def test_without_an_answer_nothing_is_taken_for_an_end(job) -> None:
    job.log_attempt("start", None, 0)
    found = status(job, error="squeue gave no answer within 20 s")
    assert found.state.phase is Phase.UNKNOWN
    assert "squeue gave no answer within 20 s" in found.detail


def test_a_job_that_is_younger_than_the_answer_is_not_forgotten(job) -> None:
    job.write_facts({**job.facts(), "submitted_s": time.time() + 9})
    assert status(job).state.name == "submitted"


@pytest.mark.parametrize(
    ("word", "code", "expected"),
    [
        ("PENDING", None, "running"),
        ("PENDING", 0, "ending"),
        ("RUNNING", 75, "ending"),
        (None, 75, "ending"),
        (None, None, "running"),
        (None, 0, "completed"),
    ],
)
def test_an_answer_that_is_older_than_the_last_start_is_not_believed(
    job, word, code, expected
) -> None:
    job.log_attempt("start", None, 0)
    if code is not None:
        job.log_attempt("end", None, 0, code=code)
    entries = () if word is None else (QueueEntry("7", None, word),)
    found = statuses(job, SLURM, Answer(time.time() - 5, entries))
    assert found[0].state.name == expected


def test_each_element_has_its_own_state(job) -> None:
    job.write_facts({**job.facts(), "array": 4})
    job.log_attempt("start", 0, 0)
    job.log_attempt("end", 0, 0, code=0)
    job.cancel(1)
    entries = (QueueEntry("7", 2, "RUNNING"), QueueEntry("7", None, "PENDING"))
    found = statuses(job, SLURM, Answer(time.time() + 1, entries))
    assert [each.state.name for each in found] == ["completed", "queued", "running", "queued"]
    found = statuses(job, SLURM, Answer(time.time() + 1, entries[:1]))
    assert [each.state.name for each in found] == ["completed", "cancelled", "running", "forgotten"]


@pytest.fixture
def squeue(tmp_path: Path, monkeypatch) -> Callable[..., None]:
    """Puts a program in the place of squeue, and sacct that keeps no accounts."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)

    def put(body: str, name: str = "squeue") -> None:
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/sh\necho $0 >>{tmp_path}/calls\n{body}\n")
        path.chmod(0o755)

    put("echo Slurm accounting storage is disabled >&2; exit 1", "sacct")
    return put


def calls(tmp_path: Path) -> list[str]:
    return [Path(line).name for line in (tmp_path / "calls").read_text().splitlines()]


def view(tmp_path: Path, **options: float) -> SchedulerView:
    return SchedulerView(SLURM, "me", tmp_path / "cache" / "queue.json", **options)


def test_one_call_answers_for_all_jobs_and_for_a_while(squeue, tmp_path) -> None:
    squeue("printf '7|RUNNING|None|n1\\n8|PENDING|Priority|\\n'")
    answers = [view(tmp_path).answer(["7", "8"]) for _ in range(5)]
    assert len(set(answers)) == 1
    assert [each.word for each in answers[0].entries] == ["RUNNING", "PENDING"]
    assert calls(tmp_path) == ["squeue"]
    view(tmp_path, ask_every_s=0).answer(["7", "8"])
    assert calls(tmp_path) == ["squeue", "squeue"]


def test_accounts_are_asked_once_and_only_for_what_is_forgotten(squeue, tmp_path) -> None:
    squeue("printf '7|RUNNING|None|n1\\n'")
    squeue("printf '6|NODE_FAIL\\n7|RUNNING\\n'", "sacct")
    assert len(view(tmp_path).answer(["7"]).entries) == 1
    for _ in range(2):
        assert [each.word for each in view(tmp_path).answer(["6"]).entries] == [
            "RUNNING",
            "NODE_FAIL",
        ]
    assert calls(tmp_path) == ["squeue", "sacct"]


def test_a_cache_that_is_damaged_is_asked_anew(squeue, tmp_path) -> None:
    squeue("printf '7|RUNNING|None|n1\\n'")
    (tmp_path / "cache").mkdir()
    for damage in ("", "{", "[]", '{"asked_s": 1e99, "entries": [], "error": ""}'):
        (tmp_path / "cache" / "queue.json").write_text(damage)
        assert view(tmp_path).answer().entries


def test_a_squeue_that_hangs_is_ended_and_the_failure_kept(squeue, tmp_path) -> None:
    squeue("sleep 100 & wait")  # a site's script around the real command
    began_s = time.monotonic()
    for _ in range(2):
        answer = view(tmp_path, within_s=0.5).answer(["7"])
        assert answer.error == "squeue gave no answer within 0.5 s"
    assert time.monotonic() - began_s < 50
    assert calls(tmp_path) == ["squeue"]


def test_a_call_that_is_suspended_holds_up_no_other(squeue, tmp_path) -> None:
    squeue("printf '7|RUNNING|None|n1\\n'")
    (tmp_path / "cache").mkdir()
    with open(tmp_path / "cache" / "queue.json.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert view(tmp_path, within_s=1).answer().entries


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("exit 0", ""),
        ("echo Unable to contact slurm controller >&2; exit 1", "Unable to contact"),
    ],
)
def test_a_squeue_that_prints_nothing_knows_no_job(squeue, tmp_path, job, body, error) -> None:
    squeue(body)
    job.log_attempt("start", None, 0)
    time.sleep(0.002)  # a line's time is rounded
    answer = view(tmp_path).answer(["7"])
    assert error in answer.error
    name = statuses(job, SLURM, answer)[0].state.name
    assert name == ("unknown (no answer)" if error else "lost")


def test_a_users_defaults_do_not_change_the_answer(squeue, tmp_path, monkeypatch) -> None:
    squeue('[ -z "$SQUEUE_FORMAT" ] && printf "7|RUNNING|None|n1\\n"')
    monkeypatch.setenv("SQUEUE_FORMAT", "%A")
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    assert [each.job for each in view(tmp_path).answer().entries] == ["7"]


def test_what_is_kept_is_read_back_as_it_was(squeue, tmp_path) -> None:
    squeue("printf '1_4|PENDING|Priority|\\n'")
    first = view(tmp_path).answer()
    assert view(tmp_path).answer() == first
    assert json.loads((tmp_path / "cache" / "queue.json").read_text())["entries"]

"""When ranks are killed, and which checkpoint must be there then."""

from __future__ import annotations

import random
from collections import Counter

from keras_candle.folder_copy import copy_of_folder
from keras_candle.verification.event_log import AttemptEvents
from keras_candle.verification.kills import ExecutedKill, course_of, draw_round


def seeded():
    return random.Random(0)  # noqa: S311 - not for secrets


def start(steps, every_steps=None, every_epochs=1):
    cadence = {"every_steps": every_steps, "every_epochs": every_epochs}
    fit = {"kind": "fit", "time_s": 0.0, "directory": "run", "path": "/run", "number": 0}
    lines = [
        {"kind": "step", "time_s": float(now), "directory": "run", "before": now - 1, "now": now}
        for now in range(1, steps + 1)
    ]
    return AttemptEvents({0: [{**fit, "cadence": cadence}, *lines]}, None)


def notes(*epochs):
    each = [{"event": "epoch", "fit": 0, "epoch": n + 1, "step": s} for n, s in enumerate(epochs)]
    return {"run": [*each, {"event": "checkpoint", "seconds": 0.5}]}


def test_a_checkpoint_is_due_by_steps_by_epochs_and_at_the_end():
    course = course_of(start(12, every_steps=5, every_epochs=2), notes(4, 8, 12))
    assert course.due == {"run": [5, 8, 10, 12]}
    assert [each.step for each in course.moments if each.saves] == [5, 8, 10, 12]


def test_the_last_but_one_that_was_due_must_be_there():
    course = course_of(start(12, every_steps=5, every_epochs=None), notes(12))
    assert course.due == {"run": [5, 10, 12]}
    # After step 10 its checkpoint may not be begun, and that of step 5 still be written.
    assert [course.least("run", step) for step in (1, 6, 10, 11, 12)] == [0, 0, 0, 5, 5]


def test_kills_come_in_order_on_all_ranks_and_over_the_whole_training():
    course = course_of(start(40, every_steps=4), notes(20, 40))
    draws = seeded()
    found = [draw_round(course, 9, 3, draws) for _ in range(200)]
    assert all([k.step for k in kills] == sorted({k.step for k in kills}) for kills in found)
    kills = [kill for one in found for kill in one]
    assert {kill.rank for kill in kills} == {0, 1, 2}
    assert {kill.step for kill in kills} == set(range(1, 41))
    assert all(0 <= kill.delay_s <= 1.5 for kill in kills)
    at_saves = Counter(kill.step % 4 == 0 for kill in kills)
    assert at_saves[True] > 1.2 * at_saves[False]


def test_one_kill_that_is_left_is_one_kill():
    course = course_of(start(2), notes(2))
    assert len(draw_round(course, 1, 1, seeded())) == 1


def killed(**facts):
    kill = draw_round(course_of(start(2), notes(2)), 1, 1, seeded())[0]
    told = {"reached": 9, "newest": 8, "least": 4, "lost_s": 0.1, "damage": [], "went_on": 8}
    return ExecutedKill(kill, 1, "run", **{**told, **facts})


def test_what_a_kill_may_cost_and_what_not():
    assert killed().problems() == []
    assert killed().lost == 1
    assert "step 4 or a later one was expected" in killed(newest=3, went_on=3).problems()[0]
    assert "and not from the checkpoint of step 8" in killed(went_on=4).problems()[0]
    assert "step-8: torn" in killed(damage=["step-8: torn"]).problems()[0]
    assert killed(went_on=None).lost == 1


def test_a_run_directorys_checkpoints_and_journal_are_not_copied_even_as_links(tmp_path):
    run, scratch = tmp_path / "project" / "run", tmp_path / "scratch"
    for folder in (run, scratch, tmp_path / "disk"):
        folder.mkdir(parents=True)
    (run / "checkpoints").symlink_to(tmp_path / "disk")
    (run / "journal.jsonl").touch()
    (run / "log.csv").touch()
    copy = copy_of_folder(tmp_path / "project", scratch, runs=False)
    assert [each.name for each in (copy / "run").iterdir()] == ["log.csv"]

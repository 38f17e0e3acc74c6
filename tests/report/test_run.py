"""The page of runs shows what their journals say."""

from __future__ import annotations

import json
import re

import pytest

from keras_candle.report.run import read_run
from tests.callback.cases import forget_fits
from tests.report import cases


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Trained for 3 epochs, and started again for 5."""
    folder = tmp_path_factory.mktemp("run")
    cases.trained(folder, 3)
    forget_fits()
    cases.trained(folder, 5)
    forget_fits()
    return folder


@pytest.fixture
def copied(run, tmp_path):
    for name in ("config.json", "journal.jsonl"):
        (tmp_path / name).write_text((run / name).read_text())
    return tmp_path


def damaged(run, change):
    journal = run / "journal.jsonl"
    journal.write_text("\n".join(change(journal.read_text().splitlines())))
    return cases.page_of(run)


def test_points_are_the_journals_values(run):
    page, epochs = cases.page_of(run), [e for e in cases.journal_of(run) if e["event"] == "epoch"]
    assert [each["epoch"] for each in epochs] == [1, 2, 3, 4, 5]
    for epoch in epochs:
        for name, value in epoch["logs"].items():
            assert f"\n{name} {value:.7g}\nepoch {epoch['epoch']}, " in page.text


def test_points_lie_where_their_values_are(run):
    text, points = (cases.write(run)).read_text(), {}
    mark = (
        r'<circle class="[^"]*" cx="([\d.]+)" cy="([\d.]+)"[^>]*><title>'
        r"[^<]*\n(\w+) ([\d.e-]+)\nepoch (\d+),"
    )
    for x, y, name, value, epoch in re.findall(mark, text)[:20]:
        points.setdefault(name, []).append((float(x), float(y), float(value), int(epoch)))
    assert {"loss", "val_loss"} <= points.keys()
    for found in (points["loss"], points["val_loss"]):
        (x, *_, epoch), (right, *_, last) = found[0], found[-1]
        by_value = sorted(found, key=lambda each: each[2])
        (_, y, low, _), (_, top, high, _) = by_value[0], by_value[-1]
        for each in found:
            across, upwards = (each[3] - epoch) / (last - epoch), (each[2] - low) / (high - low)
            assert each[0] == pytest.approx(x + across * (right - x), abs=0.2)
            assert each[1] == pytest.approx(y + upwards * (top - y), abs=0.3)


def test_the_second_fit_of_a_script_stands_behind_the_first(tmp_path):
    cases.trained(tmp_path, 3)
    cases.trained(tmp_path, 2)
    forget_fits()
    found = read_run(tmp_path, "run")
    assert [(each.fit, each.number) for each in found.epochs] == [
        (0, 1), (0, 2), (0, 3), (1, 4), (1, 5),
    ]  # fmt: skip
    assert len(found.attempts) == 1


def test_a_stop_tells_its_reason(copied):
    stop = {"time_s": 2e9, "event": "stop", "fit": 0, "reason": "SIGTERM", "step": 30}
    page = damaged(copied, lambda lines: [*lines[:-1], json.dumps(stop)])
    assert "stopped by SIGTERM" in page.text
    assert len(page.marks("path", "stop")) == 2


def test_starts_and_checkpoints_are_on_the_time_line(run):
    page, events = cases.page_of(run), [line["event"] for line in cases.journal_of(run)]
    assert len(page.marks("rect", "faint")) == 2
    legend = 1
    assert len(page.marks("path", "checkpoint")) == events.count("checkpoint") + legend
    assert len(page.marks("path", "resume")) == 1 + legend
    attempts = page.table("attempt", "from step")
    assert [row["from step"][0] for row in attempts] == ["0", "18"]


def test_the_environment_is_told(run):
    config, page = json.loads((run / "config.json").read_text()), cases.page_of(run)
    for name, version in config["versions"].items():
        assert page.facts[name] == version
    assert page.facts["fit.batch_size"] == "8"
    assert page.facts["directory"] == str(run)


def test_what_differs_between_runs_is_marked(run, copied):
    config = json.loads((run / "config.json").read_text())
    config["versions"]["keras"] = "3.7.0"
    (copied / "config.json").write_text(json.dumps(config))
    page = cases.page_of(run, copied)
    assert len(page.marks("tr", "differs")) == 1
    assert "3.7.0" in page.text


def test_several_runs_stand_side_by_side(run, tmp_path):
    other = cases.trained(tmp_path / "other", 2)
    page = cases.page_of(run, other)
    rows = page.table("run", "monitored")
    assert [int(row["epochs"][0]) for row in rows] == [5, 2]
    keys = {a["data-key"] for tag, a in page.elements if tag == "path" and "data-key" in a}
    assert keys == {"run-0", "run-1"}


def test_speed_is_told_where_it_was_measured(copied):
    told = {
        "samples_per_s": 1234.5,
        "step_ms": {"p50": 2.5},
        "split": {"compute": 0.5, "input_wait": 0.3, "something_new": 0.1},
        "measured": {"compute": "by <b>guessing</b>"},
        "gpu": {"power_w": 300},
    }
    (copied / "performance.json").write_text(json.dumps(told))
    page = cases.page_of(copied)
    for text in ("input wait: 30.0%", "something new: 10.0%", "rest: 10.0%", "by <b>guessing</b>",
                 "2.5 ms", "gpu, power", "300 W"):  # fmt: skip
        assert text in page.text


def test_what_is_not_there_is_said_and_the_rest_is_shown(copied):
    page = cases.page_of(copied)
    assert "performance.json is not there." in page.text
    (copied / "journal.jsonl").unlink()
    (copied / "checkpoints").mkdir()
    assert "journal.jsonl is not there." in cases.page_of(copied).text


def test_a_line_under_way_is_no_damage_and_one_in_the_middle_is(copied):
    page = damaged(copied, lambda lines: [*lines, lines[-1][:20]])
    assert "damaged" not in page.text
    page = damaged(copied, lambda lines: [lines[0], lines[1][:20], *lines[2:]])
    assert "journal.jsonl: 1 line is damaged and left out." in page.text


def test_an_epoch_that_is_trained_again_counts_once(copied):
    lines = cases.journal_of(copied)
    last = [line for line in lines if line["event"] == "epoch"][-1]
    resume = {**last, "event": "resume", "step": last["step"] - 2, "ranks": 1}
    again = {**last, "logs": {"loss": 77.5}}
    damaged(copied, lambda text: [*text, json.dumps(resume), json.dumps(again)])
    run = read_run(copied, "run")
    assert [each.number for each in run.epochs] == [1, 2, 3, 4, 5]
    assert run.epochs[-1].values == {"loss": 77.5}
    assert (run.repeated, len(run.attempts)) == (1, 3)


@pytest.mark.parametrize(
    "line",
    [
        {"event": "epoch", "epoch": 6, "logs": {"loss": float("nan"), "mae": float("inf")}},
        {"event": "epoch", "epoch": "six", "logs": [1], "performance": 3},
        {"event": "epoch", "epoch": 6, "step": 1e300, "logs": {"loss": 1e300, "<b>": -1e300}},
        {"event": "begin", "ranks": "all", "hosts": {"a": 1}},
        {"event": "checkpoint", "step": None, "seconds": "x"},
        {"event": "stop", "reason": cases.HOSTILE},
        {"event": cases.HOSTILE},
        {"event": ["epoch"]},
        {"time_s": -1e18, "event": "begin", "step": 30},
    ],
)
def test_no_line_breaks_the_page(copied, line):
    whole = json.dumps({"time_s": 1.8e9, "fit": 0, **line})
    page = damaged(copied, lambda lines: [*lines, whole])
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert len(page.marks("path", "line")) >= 4

"""The page of a search shows what its files say."""

from __future__ import annotations

import json
import shutil

import keras_tuner
import pytest

from keras_candle.report import write_report
from keras_candle.report.search_charts import front_of
from keras_candle.report.trials import read_search
from tests.report import cases


@pytest.fixture(scope="module")
def page(large_search):
    return cases.page_of(large_search)


@pytest.fixture
def small(tmp_path):
    return cases.searched(tmp_path, 14, cases.like_training)


def test_every_trial_is_in_the_table_with_its_values(page, large_search):
    rows = {row["trial"][0]: row for row in page.table("trial", "status", "learning_rate")}
    ends = cases.ended(large_search)
    assert rows.keys() == ends.keys()
    assert len(rows) == 200
    for name, end in ends.items():
        assert rows[name]["status"][0] == end["status"].lower()
        if end["status"] == "COMPLETED":
            assert float(rows[name]["val_loss"][1]["data-v"]) == end["score"]


def test_every_trial_is_drawn_in_every_chart(page):
    completed = [
        row for row in page.table("trial", "status", "units") if row["status"][0] == "completed"
    ]
    thin = page.marks("path", "thin")
    assert len(thin) + 1 == len(completed)  # the best one's line is another
    drawn = [a["data-key"] for _, a in page.elements if a.get("data-key", "").startswith("0:")]
    assert all(drawn.count(each["data-key"]) > 8 for each in thin)


def test_the_page_asks_for_nothing_and_is_small(large_search):
    out, said = write_report([large_search])
    assert out == large_search / "report.html"
    assert "200 trials" in said
    assert out.stat().st_size < 2_000_000
    page = cases.Page(out.read_text("utf-8"))
    asked = [a[name] for _, a in page.elements for name in ("src", "href", "srcset") if name in a]
    assert all(each.startswith(("#", "data:,")) for each in asked)
    assert "@import" not in out.read_text("utf-8")
    assert "url(" not in out.read_text("utf-8")


def test_hostile_values_and_paths_are_text(large_search, tmp_path):
    moved = tmp_path / "<script>alert(3)<" / "b>'\"&amp; \u202e"
    shutil.copytree(large_search, moved)
    values = moved / "search.json"
    values.write_text(values.read_text().replace("device_seconds", '<i onload=\\"x\\">'))
    page = cases.page_of(moved)
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert not [tag for tag, _ in page.elements if tag in ("img", "i", "b>")]
    assert not [name for _, a in page.elements for name in a if name.startswith("on")]
    titles = [a["title"] for _, a in page.elements if "title" in a]
    assert cases.HOSTILE.replace("\u202e", "\ufffd") in titles
    assert "\u202e" not in page.text


def test_subspaces_tell_what_the_search_tells(ranks, tmp_path):
    ranks(3).run(cases.searched, folder=tmp_path, trials=40, subspaces=3)
    rows = cases.page_of(tmp_path / "search").table("subspace", "new bests")
    insight = json.loads((tmp_path / "search/insight.json").read_text())
    assert len(rows) == len(insight["subspaces"]) > 1
    for row, told in zip(rows, insight["subspaces"], strict=True):
        assert int(row["trials"][0]) == told["trials"]
        assert int(row["failed"][0]) == told["failed"]
        assert int(row["new bests"][0]) == told["improvements"]
        assert row["its trial"][0] == told["best_trial"]
        assert float(row["share of the budget"][1]["data-v"]) == pytest.approx(told["share"])


def test_the_front_of_several_objectives_is_the_searchs(tmp_path):
    def with_both(hp):
        return {**cases.like_training(hp), "multi_objective": 0.0}

    folder = cases.searched(tmp_path, 30, with_both, objective=["val_loss", "parameters"])
    insight = json.loads((folder / "insight.json").read_text())
    search = read_search(folder, "search")
    points = [tuple(each.objectives) for each in search.completed]
    assert {search.completed[i].name for i in front_of(points)} == set(insight["front"])
    assert "val_loss against parameters" in cases.page_of(folder).text


def test_what_is_above_max_cost_is_not_the_best(tmp_path):
    def wider_is_better(hp):
        width = hp.Int("width", 1, 100)
        return {"val_loss": 1 / width, "parameters": width}

    folder = cases.searched(
        tmp_path, 20, wider_is_better, objective="val_loss", cost="parameters", max_cost=20
    )
    best = json.loads((folder / "insight.json").read_text())["best"]
    search = read_search(folder, "search")
    assert search.completed[0].name == best["trial"]
    assert f"best trial {best['trial']}: " in write_report([folder])[1]
    assert min(each.objective for each in search.completed) < best["objective"] == 1 / 20
    assert "new best 0.05" in cases.page_of(folder).text


def test_what_is_to_be_large_has_its_own_sign(tmp_path):
    def turned(hp):
        return {**cases.like_training(hp), "val_loss": -cases.like_training(hp)["val_loss"]}

    folder = cases.searched(
        tmp_path, 14, turned, objective=keras_tuner.Objective("val_loss", "max")
    )
    search = read_search(folder, "search")
    scores = {name: end["score"] for name, end in cases.ended(folder).items()}
    assert {each.name: each.objective for each in search.completed} == {
        name: score for name, score in scores.items() if score is not None
    }
    assert search.completed[0].objective == max(filter(None, scores.values()))


def test_a_search_under_way_is_shown_as_far_as_it_tells(small):
    (small / "insight.json").unlink()
    journal = next((small / "journals").iterdir())
    lines = journal.read_text().splitlines()
    ends = [place for place, line in enumerate(lines) if '"ended"' in line]
    journal.write_text("\n".join([*lines[: ends[-1]], lines[ends[-1]][:50]]))
    page = cases.page_of(small)
    states = [row["status"][0] for row in page.table("trial", "status")]
    assert states.count("running") == 1
    assert len(states) == 14
    assert "1 running" in page.text
    assert "each alone, by ranks" in page.text


@pytest.mark.filterwarnings("ignore:currentThread:DeprecationWarning", "ignore:getName")
def test_a_stock_keras_tuner_search(tmp_path):
    class Stock(keras_tuner.RandomSearch):
        def run_trial(self, trial, *args, **kwargs):
            return cases.like_training(trial.hyperparameters)

    class Nothing(keras_tuner.HyperModel):
        def build(self, hp):
            cases.like_training(hp)

    tuner = Stock(
        Nothing(), keras_tuner.Objective("val_loss", "min"), 5, seed=1, directory=tmp_path,
        project_name="stock", max_consecutive_failed_trials=9,
    )  # fmt: skip
    tuner.search(verbose=0)
    rows = cases.page_of(tmp_path / "stock").table("trial", "status")
    assert len(rows) == 5
    scores = {each.trial_id: each.score for each in tuner.oracle.trials.values()}
    completed = [row for row in rows if row["status"][0] == "completed"]
    assert completed
    for row in completed:
        assert float(row["score"][1]["data-v"]) == scores[row["trial"][0]]


@pytest.mark.parametrize("name", ["insight.json", "search.json", "oracle.json"])
@pytest.mark.parametrize("content", ["", "[]", '{"table": 3, "search": [], "space": {}}', "\udcff"])
def test_damaged_files_are_named_or_done_without(small, name, content):
    (small / name).write_bytes(content.encode(errors="surrogateescape"))
    page = cases.page_of(small)
    assert len(page.table("trial", "status")) == 14
    if content in ("", "[]", "\udcff") and name != "oracle.json":
        assert f"{name} " in page.text

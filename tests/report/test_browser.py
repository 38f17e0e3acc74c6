"""The page in a real browser."""

from __future__ import annotations

import csv

import pytest

from examples.benchmarks.chromium import Chromium, program
from keras_candle.report import write_report
from tests.report import cases

pytestmark = pytest.mark.skipif(
    program() is None, reason="no Chromium on PATH; `apt-get install chromium` brings one"
)
LONGEST_S = 2.0
OVERLAPS = """
(() => {
  const found = [];
  for (const svg of document.querySelectorAll("svg.chart")) {
    const boxes = Array.from(svg.querySelectorAll("text:not(.halo):not(.note)"), (each) =>
      [each.textContent, each.getBoundingClientRect()]).filter(([, box]) => box.width > 0);
    boxes.forEach(([text, a], place) => {
      for (const [other, b] of boxes.slice(place + 1)) {
        const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (across > 1 && down > 3) found.push(`${text} | ${other}`);
      }
    });
  }
  return found;
})()
"""


@pytest.fixture(scope="module")
def pages(large_search, tmp_path_factory):
    """The search's page, and one of all together."""
    runs = [cases.trained(tmp_path_factory.mktemp("runs") / name, 4) for name in ("a", "b")]
    out = tmp_path_factory.mktemp("pages")
    search, _ = write_report([large_search], out / "search.html")
    together, _ = write_report([*runs, large_search], out / "together.html")
    return search, together


def test_a_search_of_200_trials_opens_within_2_seconds(pages):
    with Chromium() as browser:
        took_s = browser.open(pages[0])
        assert took_s < LONGEST_S
        assert browser.errors == []
        assert browser.value("document.querySelectorAll('svg.chart').length") > 10
        assert browser.value("document.querySelector('#trials-0').tBodies[0].rows.length") == 200


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_request_leaves_the_page_and_nothing_is_wrong_with_it(pages, scheme):
    with Chromium() as browser:
        browser.prefer(scheme)
        browser.open(pages[1])
        assert browser.errors == []
        asked = [each for each in browser.requests if not each.startswith("data:")]
        assert asked == [pages[1].as_uri()]
        colours = "getComputedStyle(document.body).backgroundColor"
        assert (browser.value(colours) == "rgb(246, 247, 249)") == (scheme == "light")


@pytest.mark.parametrize("width", [1280, 700])
def test_no_texts_overlap_and_the_page_is_no_wider_than_the_window(pages, width):
    with Chromium(width) as browser:
        browser.open(pages[1])
        assert browser.value(OVERLAPS) == []
        assert browser.value("document.documentElement.scrollWidth - innerWidth") <= 0


def test_a_click_on_a_columns_head_sorts_and_one_on_a_trial_marks_it(pages):
    with Chromium() as browser:
        browser.open(pages[0])
        browser.value("document.querySelectorAll('#trials-0 th button')[0].click()")
        names = browser.value(
            "Array.from(document.querySelector('#trials-0').tBodies[0].rows, "
            "(row) => row.cells[0].textContent)"
        )
        assert names == [f"{number:04}" for number in range(200)]
        browser.value("document.querySelector('#trials-0 tr[data-key]').cells[0].click()")
        lit = "Array.from(document.querySelectorAll('.lit'), (each) => each.dataset.key)"
        marked = browser.value(lit)
        assert set(marked) == {"0:0000"}
        assert len(marked) > 8


def test_the_trials_are_saved_as_a_table_with_all_digits(pages, tmp_path, large_search):
    with Chromium() as browser:
        browser.open(pages[0])
        browser.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
        browser.value("document.querySelector('section > button').click()")
        file = tmp_path / "trials-0.csv"
        for _ in range(100):
            browser.value("new Promise((done) => setTimeout(done, 50))")
            if file.is_file():
                break
        assert browser.errors == []
    rows = {row["trial"]: row for row in csv.DictReader(file.read_text("utf-8").splitlines())}
    ends = cases.ended(large_search)
    assert rows.keys() == ends.keys()
    for name, end in ends.items():
        assert rows[name]["val_loss"] == ("" if end["score"] is None else str(end["score"]))
    hostile = cases.HOSTILE.replace("\u202e", "\ufffd")
    assert hostile in {row["activation"] for row in rows.values()}


def test_curves_are_shown_over_epochs_or_over_time(pages):
    with Chromium() as browser:
        browser.open(pages[1])
        shown = "Array.from(document.querySelectorAll('[data-view]'), (each) => each.hidden)"
        assert browser.value(shown) == [False, True]
        browser.value("document.querySelector('.views').lastChild.click()")
        assert browser.value(shown) == [True, False]


def test_a_script_in_a_value_does_not_run(pages):
    with Chromium() as browser:
        browser.open(pages[0])
        assert browser.value("document.title").startswith("search")
        assert browser.value("document.scripts.length") == 1
        assert browser.value("document.images.length") == 0

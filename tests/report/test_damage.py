"""Files with anything in them: the page is written all the same."""

from __future__ import annotations

import json
import random

import pytest

from keras_candle.errors import CandleError
from keras_candle.report.run import is_run
from keras_candle.report.trials import is_search
from tests.report import cases

ODD = (
    None, True, -1, 0, 3, 1e308, -1e308, 5e-324, float("nan"), float("inf"), "", "x", "<b>",
    "\ud800", [], {}, [1, 2], {"a": 1}, ["min"], [["a"]], [None], {"": None}, 10**400, 1e18, -5.5,
)  # fmt: skip


def changed(value, chance, part):
    """A JSON value in which parts are left out or replaced by something odd."""
    if chance.random() < part:
        return chance.choice(ODD)
    kept = lambda: chance.random() > part / 2  # noqa: E731
    if isinstance(value, dict):
        return {key: changed(each, chance, part) for key, each in value.items() if kept()}
    if isinstance(value, list):
        return [changed(each, chance, part) for each in value if kept()]
    return value


def copy_changed(source, target, chance):
    part = chance.choice([0.002, 0.02, 0.1, 0.4])
    for file in [*source.glob("*.json"), *source.glob("*.jsonl"), *source.glob("journals/*")]:
        if chance.random() < 0.15:
            continue
        copy = target / file.relative_to(source)
        copy.parent.mkdir(exist_ok=True, parents=True)
        lines = [file.read_text()] if file.suffix == ".json" else file.read_text().splitlines()
        odd = [json.dumps(changed(json.loads(line), chance, part)) for line in lines[:60]]
        copy.write_text("\n".join(odd))


@pytest.fixture(scope="module")
def sources(large_search, tmp_path_factory):
    return large_search, cases.trained(tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize("seed", range(40))
def test_whatever_is_in_the_files_the_page_is_written(sources, tmp_path, seed):
    copy_changed(sources[seed % 2], tmp_path / "odd", random.Random(seed))  # noqa: S311
    if is_run(tmp_path / "odd") or is_search(tmp_path / "odd"):
        page = cases.page_of(tmp_path / "odd")
        assert [tag for tag, _ in page.elements].count("script") == 1
    else:
        with pytest.raises(CandleError):
            cases.page_of(tmp_path / "odd")

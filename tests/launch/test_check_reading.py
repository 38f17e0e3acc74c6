"""What reading finds, kind by kind, and that it finds nothing where nothing is wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from keras_candle.lint import KINDS, TOPICS, dry_run_findings, read
from keras_candle.lint.names import Module
from keras_candle.lint.script import Script, load
from tests.launch.check_cases import AFTER_BUILDER, BUILDER
from tests.launch.check_cases_loops import AUTO, FRAMEWORKS, LOOPS, MODELS
from tests.launch.check_cases_whole import CLEAN_AFTER_BUILDER, CLEAN_WHOLE, WHOLE
from tests.lint import data_cases, model_cases
from tests.lint.marks import found, marked

ROOT = Path(__file__).parent.parent.parent
CASES = {**{name: BUILDER + body for name, body in AFTER_BUILDER.items()}, **WHOLE}
CASES |= {**LOOPS, **MODELS, **FRAMEWORKS}

CLEAN = {**{name: BUILDER + body for name, body in CLEAN_AFTER_BUILDER.items()}, **CLEAN_WHOLE}


@pytest.mark.parametrize("name", CASES)
def test_each_script_has_its_findings_and_no_others(name):
    assert found(CASES[name]) == marked(CASES[name])


@pytest.mark.parametrize("name", AUTO)
def test_what_auto_does_itself_is_no_finding(name):
    assert found(AUTO[name], auto=True) == marked(AUTO[name])


@pytest.mark.parametrize("name", CLEAN)
def test_nothing_is_found_where_nothing_is_wrong(name):
    assert found(CLEAN[name]) == set()


def test_every_kind_of_finding_has_a_case():
    every = [*CASES.values(), *AUTO.values()]
    every += [*data_cases.FOUND.values(), *model_cases.FOUND.values()]
    shown = {code for source in every for _, code in marked(source)}
    assert shown == {kind.code for topic in TOPICS for kind in topic.KINDS}


def test_codes_are_unique():
    codes = [kind.code for kind in KINDS]
    assert len(codes) == len(set(codes))


def test_the_readmes_script_is_clean():
    text = (ROOT / "README.md").read_text()
    (after,) = re.findall(r"<!-- after -->\n```python\n(.*?)```", text, re.S)
    assert found(after) == set()
    (before,) = re.findall(r"<!-- before -->\n```python\n(.*?)```", text, re.S)
    assert [code for _, code in found(before)] == ["candle-not-used"]


def test_examples_have_no_errors():
    for path in (ROOT / "examples").rglob("*.py"):
        assert [each for each in read(load(str(path))) if each.severity == "error"] == []


def test_modules_beside_the_script_are_read_too(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models/__init__.py").write_text("")
    (tmp_path / "models/rows.py").write_text(
        "import numpy\ndef rows():\n    return numpy.random.rand(3)\n"
    )
    script = tmp_path / "train.py"
    script.write_text(BUILDER + "from models.rows import rows\nmodel.fit(rows())\n")
    (finding,) = read(load(str(script)))
    assert finding.code == "unseeded-data"
    assert Path(finding.path) == (tmp_path / "models/rows.py").resolve()
    assert finding.line == 3


def test_what_the_script_does_not_run_of_its_modules_is_left_out():
    write = 'open("x", "w")'
    helpers = f"""
def called(): shared()
def shared(): {write}
def by_name(): {write}
def never(): only_by_never()
def only_by_never(): {write}
class Unused:
    def save(self): {write}
{write}
if __name__ == "__main__":
    {write}
"""
    source = "import helpers\nhelpers.called()\ngetattr(helpers, 'by_name')()\n"
    source += f"def of_the_script(): {write}\n"
    script = Script([Module("train.py", source), Module("helpers.py", helpers)])
    lines = [(each.path, each.line) for each in read(script)]
    assert lines == [("train.py", 4), ("helpers.py", 3), ("helpers.py", 4), ("helpers.py", 9)]


def test_functions_that_call_each_other_are_followed_to_an_end():
    body = "    if x:\n        return make()\n    made = {}(x)\n    return made\n"
    source = "def f(x):\n" + body.format("g") + "def g(x):\n" + body.format("f")
    assert found(source + "f(x).a[0].fit(x)\n") == set()


def test_a_model_of_another_module_is_followed_there():
    parts = "import keras\nmodel = keras.Sequential()\nother = keras.Sequential()\n"
    source = (
        "import keras_candle as candle\nimport parts\nfrom parts import model\n"
        "model.compile('sgd', 'mse')\ncandle.scale(parts.model).fit(x)\n"
        "parts.other.compile('sgd', 'mse')\nparts.other.fit(x)\n"
    )
    script = Script([Module("train.py", source), Module("parts.py", parts)])
    assert [(each.line, each.code) for each in read(script)] == [(6, "model-not-scaled")]


def test_a_dry_run_drops_what_reading_shows_to_be_the_roots():
    source = "import keras_candle as candle\nif candle.is_root():\n    write()\nwrite()\n"
    script = Script([Module("train.py", source)])
    facts = [{"kind": "written", "lines": [["train.py", line]], "file": "x.txt"} for line in (3, 4)]
    runs = [
        dry_run_findings.DryRun(
            facts, reason="ValueError: x", traceback=(("train.py", 4), ("x", 1))
        )
    ]
    findings = {(each.line, each.code) for each in dry_run_findings.judge(runs, script)}
    assert findings == {(4, "write-on-every-rank"), (4, "dry-run-failed")}


FIT = {"kind": "fit", "lines": [["train.py", 1]], "method": "fit", "data": "ndarray"}
FIT |= {"fingerprint": ["a"], "unseeded": False, "model": ["float32 (1,)"]}
SEEN = [
    ([FIT], [FIT], set()),
    ([FIT], [{**FIT, "fingerprint": ["b"]}], {"data-differ-between-runs"}),
    ([FIT], [{**FIT, "fingerprint": ["a", "b"]}], {"data-differ-between-runs"}),
    ([FIT], [{**FIT, "model": []}], {"models-differ-between-runs"}),
    ([{**FIT, "unseeded": True}], [FIT], {"dataset-order-unseeded"}),
    ([{**FIT, "data": "generator"}], [FIT], {"data-from-generator"}),
    ([], [], {"nothing-trained"}),
]


@pytest.mark.parametrize(("first", "second", "codes"), SEEN)
def test_what_two_dry_runs_saw_is_judged(first, second, codes):
    script = Script([Module("train.py", "model.fit(x)\n")])
    runs = [dry_run_findings.DryRun(first), dry_run_findings.DryRun(second)]
    assert {each.code for each in dry_run_findings.judge(runs, script)} == codes


def test_without_shard_each_rank_may_have_data_of_its_own():
    source = "import keras_candle as candle\ncandle.scale(model, shard=False).fit(x)\n"
    runs = [
        dry_run_findings.DryRun([FIT]),
        dry_run_findings.DryRun([{**FIT, "fingerprint": ["b"]}]),
    ]
    assert list(dry_run_findings.judge(runs, Script([Module("train.py", source)]))) == []

"""What stands on the terminal."""

from __future__ import annotations

import pytest

from keras_candle.launch.audit_precision import text


def layer(name, *, line=("train.py", 7), made_by_keras=False, **more):
    return {"layer": name, "kind": "Dense", "line": line, "made_by_keras": made_by_keras, **more}


def half(**changes):
    told = {"precision": "mixed_float16", "findings": [], "pins": [], "left": []}
    return {**told, "is_minimal": True, "loss_scale": 1.0, "is_scaled": True, **changes}


def measured(precision, **changes):
    told = {"precision": precision, "pins": [], "step_s": 0.002, "steps": 32, "skipped": 0}
    return {**told, "metrics": {"loss": 0.5}, "error": "", **changes}


def audit(*precisions, **changes):
    return {
        "model": "Sequential 'digits'",
        "method": "fit",
        "line": ["train.py", 30],
        "layers": 3,
        "batches": 1,
        "rows": 32,
        "float32": {"not_finite": [], "own_dtype": []},
        "precisions": precisions or [half()],
        "measured": [measured("float32")],
        "problems": [],
        "auto": {"precision": "mixed_bfloat16", "reason": "this CPU has avx512_bf16"},
        **changes,
    }


LOST = {"all": 0.5, "layers": {"a": 1.0}}
INF = layer("a", what="inf", said="3 inf of 4 numbers")


@pytest.mark.parametrize(
    ("told", "line"),
    [
        (
            audit(),
            "train.py:30: fit of Sequential 'digits': 3 layers follow the precision, 1 batch",
        ),
        (audit(line=None), "fit of Sequential 'digits'"),
        (audit(), "  nothing found: nothing to pin"),
        (audit(half(findings=[INF])), "  train.py:7  Dense 'a'  inf  3 inf of 4 numbers"),
        (audit(half(pins=[layer("a")])), "  train.py:7  Dense 'a'  dtype=\"float32\""),
        (
            audit(half(pins=[layer("base/a", made_by_keras=True)])),
            "Dense 'base/a'  model.get_layer('base').get_layer('a').dtype_policy = \"float32\"",
        ),
        (
            audit(half(pins=[layer("a")], is_minimal=False)),
            "and this batch is clean (fewer may be enough, the search was cut short):",
        ),
        (audit(half(findings=[INF], left=[INF])), "  no pins help: this does not come from"),
        (audit(half(findings=[INF] * 14)), "  and 2 more: --json lists them"),
        (audit(half(is_scaled=False)), "does not scale the loss, and the optimizer divides by"),
        (
            audit(
                half(loss_scale=2.0**15, lost=0.0, lost_unscaled={"all": 0.5, "layers": {"a": 1}})
            ),
            "  at the loss scale 32768 0.0% of the gradients' numbers become 0, without it 50.0% "
            "(100% in a)",
        ),
    ],
)
def test_a_line_for_everything_that_was_found(told, line):
    assert any(line in each for each in text(told).splitlines()), text(told)


def test_each_precision_is_compared_with_float32():
    rows = [
        measured("float32"),
        measured("mixed_float16", step_s=0.004, skipped=32, metrics={"loss": float("nan")}),
        measured("mixed_float16", pins=["a"], step_s=0.001, metrics={"loss": 0.75}),
        measured("mixed_bfloat16", error="TypeError: no"),
    ]
    table = text(audit(measured=rows)).split("\n\n")[-2]
    assert table.splitlines() == [
        "a step                     ms    speed-up  loss after 32",
        "float32                    2.00  1.00      0.5",
        "mixed_float16, 32 skipped  4.00  0.50      nan",
        "mixed_float16, 1 pin       1.00  2.00      0.75 (+0.2)",
        "mixed_bfloat16             TypeError: no",
    ]


@pytest.mark.parametrize(("step_s", "slower"), [(0.0015, False), (0.0021, False), (0.003, True)])
def test_where_the_table_behind_auto_is_wrong_that_is_said(step_s, slower):
    rows = [measured("float32"), measured("mixed_bfloat16", step_s=step_s)]
    last = text(audit(measured=rows)).splitlines()[-1]
    assert last.startswith('precision="auto" takes mixed_bfloat16 here: this CPU has avx512_bf16')
    assert last.endswith("this model is faster without it") == slower

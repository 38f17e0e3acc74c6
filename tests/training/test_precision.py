"""What precision="auto" takes, and that it says so."""

from __future__ import annotations

import keras
import pytest

from keras_candle.engine.single import SingleEngine
from keras_candle.training import precision
from keras_candle.training.precision import Choice, precision_scope

WITH, WITHOUT = "flags\t: fma avx512f avx512_bf16\n", "flags\t: fma avx512f avx2\n"


class WithAnOlderRank(SingleEngine):
    def allreduce(self, value, op="sum"):
        return 0 if op == "min" else super().allreduce(value, op)


@pytest.fixture
def on_cpu(monkeypatch):
    def choose(cpuinfo):
        monkeypatch.setattr(
            precision, "precision_of_this_node", lambda: precision.precision_of_cpu(cpuinfo)
        )
        monkeypatch.setattr(precision, "_PRINTED", set())

    return choose


@pytest.mark.parametrize(
    ("engine", "cpuinfo", "said"),
    [
        (SingleEngine, WITH, "mixed_bfloat16: this CPU has avx512_bf16"),
        (SingleEngine, WITHOUT, "float32: this CPU has neither avx512_bf16 nor amx_bf16"),
        (
            WithAnOlderRank,
            WITH,
            "float32: the hardware of another rank speeds up no more (this CPU has avx512_bf16)",
        ),
    ],
)
def test_auto_says_once_what_it_takes_and_by_what(capsys, on_cpu, engine, cpuinfo, said):
    on_cpu(cpuinfo)
    before = keras.config.dtype_policy()
    for _ in range(2):
        with precision_scope("auto", engine()):
            assert keras.config.dtype_policy().name == said.partition(":")[0]
    assert keras.config.dtype_policy() is before
    assert capsys.readouterr().err == f'keras_candle: precision="auto" takes {said}\n'


def test_a_precision_that_was_asked_for_is_not_announced(capsys, on_cpu):
    on_cpu(WITHOUT)
    with precision_scope("mixed_bfloat16", SingleEngine()):
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    assert capsys.readouterr().err == ""


def test_a_gpu_without_a_known_capability_is_left_alone():
    assert precision.precision_of_gpu((0, 0)) == Choice(
        "float32", "this GPU has compute capability 0.0, and less than 7.0 speeds up neither"
    )

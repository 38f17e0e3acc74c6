"""A PyDataset that changes itself goes on to the bit, wherever it does so."""

from __future__ import annotations

import numpy as np
import pytest

import keras_candle as candle
from tests.callback import callback_cases, cases
from tests.resume import resume_data_cases


@pytest.mark.parametrize("name", resume_data_cases.ALL)
def test_one_rank(tmp_path, name):
    # In the middle of an epoch, twice; the second one has four steps before it.
    found = callback_cases.differences(
        tmp_path, (3, 6, 7), make=None, data=resume_data_cases.ALL[name]
    )
    assert found == {}


@pytest.mark.parametrize("batch", ["replica", "global"])
def test_ranks(ranks, tmp_path, batch):
    for name in ("Beginning", "Augmenting", "ByFunction"):
        how = {"make": None, "data": resume_data_cases.ALL[name], "scale": {"batch": batch}}
        kills = (2, 4) if batch == "replica" else (3, 6)  # of two or four steps an epoch
        folder = str(tmp_path / name)
        for found in ranks(2).run(callback_cases.differences, folder=folder, kills=kills, **how):
            assert found == {}, name


class Opened(resume_data_cases.Batches):
    def __init__(self, x, y, path):
        super().__init__(x, y)
        self.sources = [open(path)]  # noqa: SIM115 - it stays open


def test_what_cannot_be_kept_of_data_is_refused(tmp_path):
    (tmp_path / "rows").write_text("1")
    data = Opened(np.ones((32, 3)), np.ones((32, 1)), tmp_path / "rows")
    run = candle.CandleCallback(tmp_path / "run", inexact_resume="refuse")
    with pytest.raises(candle.CheckpointError, match="state of Opened"):
        cases.small_model().fit(data, verbose=0, callbacks=[run])
    data.sources[0].close()

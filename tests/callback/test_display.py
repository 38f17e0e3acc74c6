"""What root shows of a training that is under way."""

from __future__ import annotations

import io
import re

import pytest

import keras_candle as candle
from keras_candle.callback.display import Display
from tests.callback import cases


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Fit:
    """A fit of 2 epochs of 10 steps, of which each takes 4 seconds and 8 rows."""

    def __init__(self, stream, verbose=1, steps=10):
        self.now_s, self.rows, self.stream = 0.0, 0, stream
        self.display = Display(
            2,
            steps,
            verbose,
            samples=lambda: self.rows,
            checkpoint_age_s=lambda: 75.0,
            stream=stream,
            clock=lambda: self.now_s,
        )

    def run(self):
        for epoch in range(2):
            self.display.before_epoch(epoch)
            for done in range(1, 11):
                self.now_s += 4.0
                self.rows += 8
                self.display.after_step(done, {"loss": 0.5})
            self.display.after_epoch(epoch, {"loss": 0.25, "val_loss": 0.125}, {})
        self.display.close()
        return self.stream.getvalue()


def test_lines_every_ten_seconds_and_for_each_epoch():
    lines = Fit(io.StringIO()).run().splitlines()
    assert len(lines) == 2 * (3 + 1)
    assert lines[0] == (
        "epoch 1/2  step 3/10  2 samples/s  1:08 left  checkpoint 1:15 ago  loss 0.5000"
    )
    assert lines[3] == (
        "epoch 1/2  step 10/10  40s  2 samples/s  checkpoint 1:15 ago  loss 0.2500  val_loss 0.1250"
    )


def test_one_line_an_epoch():
    assert len(Fit(io.StringIO(), verbose=2).run().splitlines()) == 2


def test_nothing_where_nothing_is_asked_for():
    assert Fit(io.StringIO(), verbose=0).run() == ""


def test_the_number_of_steps_is_learned_from_the_first_epoch():
    lines = Fit(io.StringIO(), steps=None).run().splitlines()
    assert lines[0].startswith("epoch 1/2  step 3  2 samples/s  checkpoint")
    assert "left" in lines[4]


def test_one_bar_on_a_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    shown = Fit(Terminal()).run()
    assert "step 7/10" in shown
    left_standing = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "", shown.split("\x1b[2K")[-1])
    assert "step 10/10" in left_standing
    assert "val_loss 0.1250" in left_standing


def fit(run, verbose):
    cases.small_fit(run, cases.small_model(), epochs=2, rows=8 * candle.size(), verbose=verbose)


def test_root_alone_shows_a_training(ranks, tmp_path):
    pool = ranks(2)
    pool.run(fit, run=str(tmp_path / "warm"), verbose=0)
    before = len(pool.log())
    pool.run(fit, run=str(tmp_path / "shown"), verbose=2)
    told = pool.log()[before:]
    assert [told.count(f"epoch {number}/2") for number in (1, 2)] == [1, 1]


@pytest.mark.parametrize(("verbose", "lines"), [(0, 0), (1, 3), (2, 3)])
def test_a_fit_shows_its_epochs(tmp_path, capsys, verbose, lines):
    cases.small_fit(tmp_path, epochs=3, verbose=verbose)
    assert len(capsys.readouterr().out.splitlines()) == lines

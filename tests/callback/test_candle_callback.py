"""What a run directory holds after a fit, and what is refused."""

from __future__ import annotations

import copy
import fcntl
import os
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_candle as candle
from keras_candle.checkpoints.folder import CheckpointFolder
from tests.callback import cases


def steps(run):
    return CheckpointFolder(run / "checkpoints").steps()


class Epochs(keras.callbacks.Callback):
    """Notes which epochs were trained."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(epoch)


def test_a_training_is_the_same_with_it_and_without(tmp_path):
    weights = []
    for durable in ([], [candle.CandleCallback(tmp_path)]):
        keras.utils.set_random_seed(3)
        model = cases.small_model(optimizer="adam")
        x = np.random.default_rng(0).normal(size=(21, 3))
        history = model.fit(
            x, x[:, :1], batch_size=4, epochs=3, validation_split=0.2, verbose=0, callbacks=durable
        )
        weights.append((model.get_weights(), history.history))
    (plain, plain_history), (own, own_history) = weights
    assert plain_history == own_history
    assert all(np.array_equal(a, b) for a, b in zip(plain, own, strict=True))


def test_plain_keras_loads_a_checkpoint(tmp_path):
    model = cases.small_model(optimizer="adam")
    cases.small_fit(tmp_path, model, epochs=2)
    folder = tmp_path / "checkpoints" / "last"
    other = cases.small_model(optimizer="adam")
    other.optimizer.build(other.trainable_variables)
    other.load_weights(folder / "model.weights.h5")
    assert np.array_equal(model.get_weights()[0], other.get_weights()[0])
    whole = keras.saving.load_model(folder)
    assert np.array_equal(model.get_weights()[0], whole.get_weights()[0])


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        ({"every_epochs": 1, "keep_last": 2}, [8, 10]),
        ({"every_epochs": 2, "keep_last": 9}, [4, 8, 10]),
        ({"every_epochs": None, "every_steps": 3, "keep_last": 9}, [3, 6, 9, 10]),
        ({"every_epochs": None, "keep_last": 1}, [10]),
        ({"every_epochs": 1, "keep_last": 1, "keep_every": 4}, [4, 8, 10]),
        ({"every_epochs": None, "every_seconds": 1e-6, "keep_last": 99}, list(range(1, 11))),
    ],
)
def test_cadence_and_keeping(tmp_path, asked, kept):
    cases.small_fit(tmp_path, epochs=5, checkpoint=candle.Checkpoint(**asked))
    assert steps(tmp_path) == kept


def test_the_best_stays(tmp_path):
    class Say(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs):
            logs["score"] = [1.0, 3.0, 2.0, 0.0, 0.5][epoch]

    asked = candle.Checkpoint(keep_last=1, keep_best=2, monitor="score", mode="max")
    cases.small_fit(tmp_path, epochs=5, checkpoint=asked, callbacks=[Say()])
    assert steps(tmp_path) == [4, 6, 10]
    assert os.readlink(tmp_path / "checkpoints" / "best") == "step-00000004"


def test_a_finished_training_is_not_trained_again_unless_it_gets_more_epochs(tmp_path):
    first = cases.small_model()
    history = cases.small_fit(tmp_path, first, epochs=2).history
    for epochs, trained in ((2, []), (4, [2, 3])):
        cases.forget_fits()
        again, seen = cases.small_model(), Epochs()
        result = cases.small_fit(tmp_path, again, epochs=epochs, callbacks=[seen])
        assert seen.seen == trained
        assert result.history["loss"][:2] == history["loss"]


def test_several_fits_of_a_script_go_on_with_the_one_that_was_under_way(tmp_path):
    def script(*, fails):
        model, seen = cases.small_model(), [Epochs(), Epochs()]
        cases.small_fit(tmp_path, model, epochs=2, callbacks=[seen[0]])
        stop = [cases.fail_in_epoch(1)] if fails else []
        cases.small_fit(tmp_path, model, epochs=3, callbacks=[seen[1], *stop])
        return model.get_weights(), [each.seen for each in seen]

    with pytest.raises(ZeroDivisionError):
        script(fails=True)
    cases.forget_fits()
    weights, trained = script(fails=False)
    # Its state says what the killed process had seen.
    assert trained == [[0, 1], [0, 1, 2]]
    cases.forget_fits()
    again, _ = script(fails=False)
    assert all(np.array_equal(a, b) for a, b in zip(weights, again, strict=True))


def test_it_can_be_copied_and_stand_anywhere(tmp_path):
    durable = copy.deepcopy(candle.CandleCallback(tmp_path))
    model = cases.small_model()
    model.fit(np.ones((8, 3)), np.ones((8, 1)), verbose=0, callbacks=[Epochs(), durable, Epochs()])
    assert steps(tmp_path) == [1]


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(tmp_path, capsys):
    cases.small_fit(tmp_path, epochs=3)
    place = tmp_path / "checkpoints" / "step-00000006" / "model.weights.h5"
    content = bytearray(place.read_bytes())
    content[-3] ^= 4
    place.write_bytes(content)
    cases.forget_fits()
    seen = Epochs()
    cases.small_fit(tmp_path, epochs=3, callbacks=[seen])
    said = capsys.readouterr().err
    assert "step-00000006 is skipped" in said
    assert "tensor" in said
    assert seen.seen == [2]
    assert (tmp_path / "checkpoints" / "set-aside" / "step-00000006").is_dir()


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (lambda: cases.small_model(units=2), "units of layer . .Dense. is 1 there, 2 here"),
        (lambda: cases.small_model(optimizer="adam"), "other optimizers: \\['SGD'\\] there"),
    ],
)
def test_another_model_or_optimizer_is_refused(tmp_path, other, words):
    cases.small_fit(tmp_path)
    cases.forget_fits()
    with pytest.raises(candle.CheckpointError, match=words):
        cases.small_fit(tmp_path, other(), epochs=2)


def test_other_data_are_refused(tmp_path):
    cases.small_fit(tmp_path)
    cases.forget_fits()
    with pytest.raises(candle.CheckpointError, match="other rows of the data: 8 there, 12 here"):
        cases.small_fit(tmp_path, rows=12, epochs=2)


def test_resume(tmp_path):
    with pytest.raises(candle.CheckpointError, match="no whole checkpoint"):
        cases.small_fit(tmp_path, resume="required")
    cases.small_fit(tmp_path)
    cases.forget_fits()
    cases.small_fit(tmp_path, resume="never")
    assert (tmp_path / "checkpoints" / "set-aside" / "step-00000002").is_dir()
    with pytest.raises(candle.CandleError, match="resume='sometimes', expected one of"):
        candle.CandleCallback(tmp_path, resume="sometimes")


def test_a_second_run_in_the_directory_is_refused(tmp_path):
    with open(tmp_path / ".lock", "w") as lock:
        lock.write("host a, pid 5")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(candle.CheckpointError, match="has not ended \\(host a, pid 5\\)"):
            cases.small_fit(tmp_path)
    cases.small_fit(tmp_path)


def test_a_directory_that_cannot_be_written_is_told_before_the_first_step(tmp_path):
    (tmp_path / "file").write_text("")
    seen = Epochs()
    with pytest.raises(candle.CheckpointError, match="cannot be written"):
        cases.small_fit(tmp_path / "file" / "run", callbacks=[seen])
    assert seen.seen == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"keep_last": 0},
        {"every_steps": 0},
        {"every_seconds": -1},
        {"mode": "up"},
        {"keep_best": -1},
    ],
)
def test_arguments_that_make_no_sense(wrong):
    (name,) = wrong
    with pytest.raises(candle.CandleError, match=f"{name}=.*, expected"):
        candle.Checkpoint(**wrong)


@pytest.mark.parametrize("on_error", ["raise", "warn"])
def test_a_full_disk(tmp_path, capsys, monkeypatch, on_error):
    """The disk fills after the first checkpoint."""
    real, calls = os.posix_fallocate, []

    def fill(descriptor, offset, size):
        calls.append(size)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        real(descriptor, offset, size)

    monkeypatch.setattr(os, "posix_fallocate", fill)
    asked = candle.Checkpoint(on_error=on_error)
    if on_error == "raise":
        with pytest.raises(candle.CheckpointError, match="bytes are free: make room there"):
            cases.small_fit(tmp_path, epochs=4, checkpoint=asked)
    else:
        seen = Epochs()
        cases.small_fit(tmp_path, epochs=4, checkpoint=asked, callbacks=[seen])
        assert seen.seen == [0, 1, 2, 3]
        assert "The training continues without it" in capsys.readouterr().err
    assert steps(tmp_path) == [2]
    assert CheckpointFolder(tmp_path / "checkpoints").newest_whole(print) == 2


def test_the_one_line_that_a_user_adds(tmp_path):
    # In a process of its own: fit is looked up before anything of ours but the package is there.
    script = """
import sys
import keras, numpy
import keras_candle as candle
assert "keras_candle.callback" not in sys.modules
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
x, y = numpy.ones((8, 3)), numpy.ones((8, 1))
model.fit(x, y, verbose=0, callbacks=[candle.CandleCallback(sys.argv[1])])
"""
    subprocess.run([sys.executable, "-c", script, tmp_path], check=True, timeout=100)
    assert (tmp_path / "checkpoints/last/MANIFEST.json").exists()


def test_an_epoch_that_was_killed_after_its_last_step_keeps_its_numbers(tmp_path):
    def fail(epoch, logs):
        raise ZeroDivisionError

    checkpoint = candle.Checkpoint(every_steps=2, every_epochs=None)
    model = cases.small_model()
    weights = model.get_weights()
    failing = keras.callbacks.LambdaCallback(on_epoch_end=fail)
    with pytest.raises(ZeroDivisionError):
        cases.small_fit(
            tmp_path / "parts", model, epochs=2, checkpoint=checkpoint, callbacks=[failing]
        )
    assert steps(tmp_path / "parts") == [2]
    ends = []
    for run in ("parts", "whole"):
        model = cases.small_model()
        model.set_weights(weights)
        ends.append(cases.small_fit(tmp_path / run, model, epochs=2, checkpoint=checkpoint))
    assert ends[0].history == ends[1].history
    assert len(ends[0].history["loss"]) == 2


class Remembers(keras.callbacks.Callback):
    """Keeps something that no plain value is, and says how to save it."""

    def __init__(self):
        super().__init__()
        self._epochs = {2j}

    def on_epoch_end(self, epoch, logs=None):
        self._epochs.add(epoch + 2j)

    def get_state(self):
        return {"epochs": sorted(each.real for each in self._epochs)}

    def set_state(self, state):
        self._epochs = {complex(each, 2) for each in state["epochs"]}


def test_get_state_and_a_csv_file_go_on(tmp_path):
    def train(run, failing=()):
        remembers = Remembers()
        log = keras.callbacks.CSVLogger(tmp_path / f"{run}.csv")
        try:
            cases.small_fit(tmp_path / run, seeded_model(), 4, callbacks=[remembers, log, *failing])
        finally:
            if log.csv_file is not None:
                log.csv_file.close()
        return remembers.get_state(), (tmp_path / f"{run}.csv").read_text()

    def seeded_model():
        keras.utils.set_random_seed(3)
        return cases.small_model()

    with pytest.raises(ZeroDivisionError):
        train("parts", [cases.fail_in_epoch(2)])
    with open(tmp_path / "parts.csv", "a") as file:
        file.write("2,a line that came after the checkpoint\n")
    assert train("parts") == train("whole")


def test_what_was_best_before_is_the_best_after(tmp_path):
    """No epoch after the first one is as good."""

    def train(*failing):
        cases.forget_fits()
        rate = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: logs.update(score=[1.0, 3.0, 2.0, 2.5][epoch])
        )
        saves = keras.callbacks.ModelCheckpoint(
            tmp_path / "best.keras", "score", save_best_only=True, mode="min"
        )
        stops = keras.callbacks.EarlyStopping("score", patience=9, mode="min")
        slows = keras.callbacks.ReduceLROnPlateau("score", patience=9, mode="min")
        callbacks = [rate, saves, stops, slows, *failing]
        cases.small_fit(tmp_path / "run", epochs=4, callbacks=callbacks)
        return saves.best, (stops.best, stops.best_epoch, stops.wait), (slows.best, slows.wait)

    with pytest.raises(ZeroDivisionError):
        train(cases.fail_in_epoch(2))
    assert train() == (1.0, (1.0, 0, 3), (1.0, 3))


def stop_by(number):
    return keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: os.kill(os.getpid(), number)
    )


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGTERM"])
def test_a_signal_saves_and_ends_with_75(tmp_path, capsys, name):
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as exit_:
        cases.small_fit(tmp_path, epochs=9, callbacks=[stop_by(number)])
    assert exit_.value.code == 75
    assert steps(tmp_path) == [1]
    assert f"{name}: saved at step 1" in capsys.readouterr().err
    assert signal.getsignal(number) == before


@pytest.mark.parametrize(("within_s", "code", "output"), [(0, -15, ""), (60, 0, "still here\n")])
def test_a_second_sigterm_ends_at_once_unless_it_is_the_same(within_s, code, output):
    program = """
import os, signal
from keras_candle.resume.stopping import StopSignals
signals = StopSignals(same_within_s=WITHIN)
signals.listen()
os.kill(os.getpid(), signal.SIGUSR1)
os.kill(os.getpid(), signal.SIGTERM)
print(signals.received == signal.SIGUSR1, flush=True)
os.kill(os.getpid(), signal.SIGTERM)
print("still here", flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", program.replace("WITHIN", str(within_s))],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (code, f"True\n{output}")


@pytest.mark.parametrize("fast", [0, 1])
def test_only_roots_clock_counts(ranks, tmp_path, fast):
    found = ranks(2).run(cases.with_clocks_of_their_own, run=str(tmp_path), fast=fast)
    (seen, weights), (_, weights_1) = found
    assert seen == [False, fast == 0, fast == 0, fast == 0]
    assert weights == weights_1


@pytest.mark.parametrize("rank", [0, 1])
def test_a_watcher_that_cannot_start_is_named_and_stops_nothing(ranks, tmp_path, rank):
    pool = ranks(2)
    found = pool.run(cases.fit_with_a_watcher_that_fails, run=str(tmp_path / "run"), rank=rank)
    assert found == [[0], [0]]
    sentence = f"no rank is watched (rank {rank}: OSError: no process is left)"
    assert pool.log().count(sentence) == 1

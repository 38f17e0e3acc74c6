"""What a trial may return, how it may end, and what a tuner makes of it."""

from __future__ import annotations

import keras
import keras_tuner
import numpy as np
import pytest

import keras_candle as candle
from keras_candle import engine as engines
from keras_candle.errors import SearchError
from keras_candle.search.leaderboard import TooManyFailuresError
from keras_candle.search.oracle import HyperSpaceOracle

X = np.random.default_rng(0).random((16, 4)).astype("float32")
Y = (X[:, :1] > 0.5).astype("float32")
SCORE = keras_tuner.Objective("score", "min")


def build_model(hp):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(hp.Int("units", 1, 8))])
    model.add(keras.layers.Dense(1))
    model.compile(keras.optimizers.SGD(hp.Float("rate", 1e-3, 1.0, sampling="log")), "mse")
    return model


class Told(keras_tuner.HyperModel):
    """Its model isn't compiled, and its loop tells callbacks what `logs` says of an epoch."""

    def __init__(self, logs, epochs=1):
        super().__init__()
        self.logs, self.epochs, self.stopped = logs, epochs, []

    def build(self, hp):
        inputs = keras.Input((4,))
        return keras.Model(inputs, keras.layers.Dense(hp.Int("units", 1, 8))(inputs))

    def fit(self, hp, model, *args, callbacks=(), epochs=None, initial_epoch=0, **kwargs):
        listed = keras.callbacks.CallbackList(
            callbacks, model=model, epochs=epochs or self.epochs, steps=1
        )
        model.stop_training = False
        listed.on_train_begin()
        for epoch in range(initial_epoch, epochs or self.epochs):
            logs = self.logs(hp, epoch)
            listed.on_epoch_end(epoch, logs)
            if model.stop_training:
                break
        self.stopped.append(model.stop_training)
        return dict(logs, score=float(hp["units"]))


def searching(run, objective, folder, **options):
    """A search over one number from 0 to 1, of which `run` makes a trial's result."""

    class Quick(candle.CandleTuner):
        def run_trial(self, trial, *args, **kwargs):
            return run(self, trial, trial.hyperparameters.Float("x", 0.0, 1.0))

    tuner = Quick(None, objective, directory=folder, **{"max_trials": 4, **options})
    tuner.search(verbose=0)
    return tuner


def value(trial, name):
    return trial.metrics.get_best_value(name)


# How a trial ends.


def test_a_trial_that_raises_before_its_model_is_built_is_a_failed_one(tmp_path):
    class Unbuilt(keras_tuner.HyperModel):
        def build(self, hp):
            return keras.Sequential([keras.layers.Dense(hp.Int("units", 1, 4))])

        def fit(self, hp, model, *args, **kwargs):
            if hp["units"] % 2:
                raise MemoryError("too many units")
            return float(hp["units"])

    tuner = candle.CandleTuner(Unbuilt(), max_trials=4, directory=tmp_path)
    tuner.search(verbose=0)
    told = {each.hyperparameters["units"]: each for each in tuner.oracle.trials.values()}
    assert [told[i].status for i in (1, 2, 3, 4)] == ["FAILED", "COMPLETED"] * 2
    assert "Traceback" in told[1].message
    assert "MemoryError: too many units" in told[1].message


def _broken_then_repaired(folder):
    broken = [True]

    class Quick(candle.CandleTuner):
        def run_trial(self, trial, *args, **kwargs):
            x = trial.hyperparameters.Float("x", 0.0, 1.0)
            return 1 / 0 if broken else x

    tuner = Quick(None, max_trials=12, directory=folder)
    with pytest.raises(TooManyFailuresError):
        tuner.search(verbose=0)
    engines.current().barrier()
    failed = sum(each.status == "FAILED" for each in tuner.oracle.records())
    broken.clear()
    tuner.search(verbose=0)
    ended = [each.status for each in tuner.oracle.records()]
    return failed, ended.count("FAILED"), ended.count("COMPLETED")


@pytest.mark.parametrize("size", [1, 2])
def test_a_search_that_was_repaired_goes_on(ranks, tmp_path, size):
    if size == 1:
        told = [_broken_then_repaired(str(tmp_path))]
    else:
        told = ranks(size).run(_broken_then_repaired, folder=str(tmp_path))
    for before, failed, completed in told:
        assert (failed, completed) == (before, 12 - before)


# What it may return.


def test_what_a_trial_has_told_the_oracle_itself_counts(tmp_path):
    def run(tuner, trial, x):
        for step, more in enumerate([2.0, 0.0, 1.0]):
            tuner.oracle.update_trial(trial.trial_id, {"score": x + more, "other": more}, step)

    for trial in searching(run, SCORE, tmp_path).oracle.trials.values():
        assert (trial.status, trial.best_step) == ("COMPLETED", 1)
        assert trial.score == trial.hyperparameters["x"]
        assert [each.value for each in trial.metrics.get_history("other")][:1] == [[2.0]]
        assert trial.metrics.get_history("other")[1].mean() == 0.0


def test_several_objectives_come_in_a_dict_or_in_several(tmp_path):
    def run(tuner, trial, x):
        return [{"score": x, "cost": 1.0 - x}, {"score": x + 2.0, "cost": 1.0 - x}]

    tuner = searching(run, [SCORE, "cost"], tmp_path)
    for trial in tuner.oracle.trials.values():
        x = trial.hyperparameters["x"]
        assert value(trial, "score") == pytest.approx(x + 1.0)
        assert trial.score == pytest.approx(2.0)
    assert len(tuner.pareto_front()) == 4


def test_with_a_measured_objective_the_weights_are_the_best_epochs(tmp_path):
    worse = keras.callbacks.LearningRateScheduler(lambda epoch: 1e-3 if epoch < 2 else 1.0)
    tuner = candle.CandleTuner(build_model, ["val_loss", "parameters"], 2, directory=tmp_path)
    tuner.search(X, Y, validation_data=(X, Y), epochs=4, callbacks=[worse], verbose=0)
    best, trial = tuner.get_best_models()[0], tuner.oracle.get_best_trials()[0]
    assert trial.best_step < 3
    assert best.evaluate(X, Y, verbose=0) == pytest.approx(value(trial, "val_loss"))


def test_several_objectives_come_in_a_dict_from_fit(tmp_path):
    tuner = candle.CandleTuner(
        Told(lambda hp, epoch: {"loss": 1.0}), [SCORE, "parameters"], 3, directory=tmp_path
    )
    tuner.search(verbose=0)
    for trial in tuner.oracle.trials.values():
        units = trial.hyperparameters["units"]
        assert (value(trial, "score"), value(trial, "parameters")) == (units, 5 * units)


def test_an_objective_that_is_measured_alone_needs_no_place_in_the_history(tmp_path):
    tuner = candle.CandleTuner(build_model, "parameters", 2, directory=tmp_path)
    tuner.search(X, Y, verbose=0, epochs=2)
    for trial in tuner.oracle.trials.values():
        assert trial.score == 6 * trial.hyperparameters["units"] + 1


@pytest.mark.parametrize(
    ("result", "objective", "says"),
    [
        (1.0, [SCORE, "cost"], "returned the number 1.0.*dict with score, cost"),
        ({"other": 1.0}, SCORE, "'score' is not among what a trial returned: other"),
        ({"score": 1.0}, [SCORE, "parameters"], "'parameters' is not among"),
    ],
)
def test_a_result_without_an_objective_is_named(tmp_path, result, objective, says):
    with pytest.raises(SearchError, match=says):
        searching(lambda *_: result, objective, tmp_path)


def _named_on_all_ranks(folder):
    searching(lambda *_: {"other": 1.0}, SCORE, folder, ranks_per_trial=2)


def test_a_result_without_an_objective_is_named_on_all_ranks(ranks, tmp_path):
    one, other = ranks(2).errors(_named_on_all_ranks, folder=str(tmp_path))
    assert "'score' is not among" in one
    assert "'score' is not among" in other


@pytest.mark.parametrize("direction", ["maximise", "MAX", None])
def test_a_direction_that_is_none_is_refused(direction):
    wrong = keras_tuner.Objective("val_loss", direction)
    for given in (wrong, [SCORE, wrong]):
        with pytest.raises(SearchError, match=f"direction={direction!r}.*'min' or 'max'"):
            HyperSpaceOracle(given)


def test_a_model_that_is_not_compiled_is_loaded_and_trained_on(tmp_path):
    told = Told(lambda hp, epoch: {"score": float(hp["units"])})
    tuner = candle.CandleTuner(told, SCORE, 4, directory=tmp_path, max_epochs=3)
    tuner.search(verbose=0)
    assert {each.status for each in tuner.oracle.trials.values()} == {"COMPLETED"}
    assert any(each.hyperparameters["tuner/round"] for each in tuner.oracle.trials.values())
    model, best = tuner.get_best_models()[0], tuner.get_best_hyperparameters()[0]
    assert model.output_shape == (None, best["units"])


# Groups of ranks.


class Built(keras_tuner.HyperModel):
    def build(self, hp):
        return build_model(hp)


def _undecorated(folder, kind):
    model = {"function": build_model, "class": Built()}[kind]
    tuner = candle.CandleTuner(model, "loss", 2, ranks_per_trial=2, directory=folder)
    tuner.search(X, Y, verbose=0, epochs=1)


@pytest.mark.parametrize("kind", ["function", "class"])
def test_a_group_of_ranks_needs_a_model_that_trains_on_them(ranks, tmp_path, kind):
    for error in ranks(2).errors(_undecorated, folder=str(tmp_path), kind=kind):
        assert error.startswith("SearchError: ranks_per_trial=2")
        assert "Build it with @candle.scalable, or leave ranks_per_trial out" in error
    assert not list(tmp_path.rglob("*.h5"))


class UnsendableError(Exception):
    """One that can neither be pickled nor made of its text."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")
        self.hold = lambda: None


def _failing_on_one_rank(folder, where, rank):
    def fail(*_, **__):
        if engines.current().rank == rank:
            raise UnsendableError("this", "that")

    class Quick(candle.CandleTuner):
        def run_trial(self, trial, *args, **kwargs):
            return {"score": trial.hyperparameters.Float("x", 0.0, 1.0)}

    tuner = Quick(None, SCORE, directory=folder, max_trials=4, ranks_per_trial=2)
    holder = tuner.oracle if hasattr(tuner.oracle, where) else tuner
    setattr(holder, where, fail)
    tuner.search(verbose=0)


@pytest.mark.parametrize(
    ("where", "rank"),
    [
        ("create_trial", 0),
        ("pre_create_trial", 0),
        ("update_trial", 0),
        ("end_trial", 0),
        ("on_trial_begin", 1),
        ("on_search_begin", 1),
    ],
)
def test_what_fails_on_one_rank_of_a_group_fails_on_all_of_them(ranks, tmp_path, where, rank):
    errors = ranks(2).errors(
        _failing_on_one_rank, folder=str(tmp_path), where=where, rank=rank, timeout_s=30
    )
    for error in errors:
        assert error.startswith("SearchError: ")
        assert "UnsendableError: this and that" in error


def _trial_that_fails_on_one_rank(folder, rank):
    def run(tuner, trial, x):
        if engines.current().rank == rank:
            raise UnsendableError("this", "that")
        return {"score": x}

    tuner = searching(run, SCORE, folder, ranks_per_trial=2)
    return len(tuner.oracle.trials)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_trials_exception_that_cannot_be_sent_ends_the_trial(ranks, tmp_path, rank):
    run = {"folder": str(tmp_path), "rank": rank, "timeout_s": 60}
    errors = ranks(2).errors(_trial_that_fails_on_one_rank, **run)
    assert "UnsendableError: this and that" in errors[0]


# Above the limit of the cost.


def dear(tuner, trial, x):
    return {"score": -x, "device_seconds": 10 * x + 1e-3}


def test_what_is_told_of_the_best_keeps_the_limit(tmp_path):
    tuner = searching(dear, SCORE, tmp_path, max_trials=8, max_cost=5.0)
    best = tuner.oracle.get_best_trials()[0]
    assert value(best, "device_seconds") <= 5.0
    assert tuner.insight()["best"] == {"trial": best.trial_id, "objective": best.score}
    assert tuner.insight()["best_so_far"]["objective"][-1] == best.score
    assert [each.trial_id for each in tuner.pareto_front()] == [best.trial_id]


def test_the_front_keeps_the_limit(tmp_path):
    tuner = searching(dear, [SCORE, "device_seconds"], tmp_path, max_trials=8, max_cost=5.0)
    kept = [each for each in tuner.oracle.trials.values() if value(each, "device_seconds") <= 5.0]
    front = tuner.pareto_front()
    assert {each.trial_id for each in front} == {each.trial_id for each in kept}
    assert 0 < len(front) < 8
    assert tuner.insight()["front"] == [each.trial_id for each in front]


def _report_on_all_ranks(folder):
    def run(tuner, trial, x):
        tuner.oracle.update_trial(trial.trial_id, {"score": x})

    tuner = searching(run, SCORE, folder, ranks_per_trial=2)
    return [each.score for each in tuner.oracle.get_best_trials(4)]


def test_a_trial_may_report_on_all_ranks_of_its_group(ranks, tmp_path):
    one, other = ranks(2).run(_report_on_all_ranks, folder=str(tmp_path))
    assert len(one) == 4
    assert one == other

"""The contract with Keras Tuner."""

from __future__ import annotations

import pytest

pytest.importorskip("keras_tuner")

import keras_tuner

from keras_candle.keras_private import keras_tuner as private


def build(hp):
    import keras

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(hp.Int("units", 2, 6, 2))])
    model.compile("sgd", "mse")
    return model


@pytest.fixture
def tuner(tmp_path):
    return keras_tuner.RandomSearch(
        build, "val_loss", max_trials=1, directory=str(tmp_path), project_name="p"
    )


def test_the_folders_and_files_of_a_search(tuner, tmp_path):
    assert private.project_directory(tuner.oracle) == tmp_path / "p"
    assert private.trial_directory(tuner.oracle, "3") == tmp_path / "p" / "trial_3"
    assert "trial_3" in private.checkpoint_path(tuner, "3")
    assert private.build_config_path(tuner, "3").parent == tmp_path / "p" / "trial_3"


def test_a_tuner_finds_its_space(tuner):
    tuner.oracle.hyperparameters = keras_tuner.HyperParameters()
    private.populate_space(tuner)
    assert [each.name for each in tuner.oracle.hyperparameters.space] == ["units"]


def test_an_oracle_prints_its_trials(tuner):
    assert callable(private.display_of(tuner.oracle).on_trial_begin)


def test_a_trial_without_the_objective_is_refused(tuner):
    private.check_objective(tuner.oracle, {"val_loss": 1.0})
    with pytest.raises(ValueError, match="val_loss"):
        private.check_objective(tuner.oracle, {"loss": 1.0})


def test_a_space_is_copied_with_other_values():
    space = keras_tuner.HyperParameters()
    space.Int("units", 2, 6, 2)
    other = private.copy_space(space, {"units": 4})
    assert other.get("units") == 4
    assert (space.get("units"), other.space) == (2, space.space)
    assert other.space is not space.space


def test_the_values_of_a_hyperparameter_with_a_step():
    space = keras_tuner.HyperParameters()
    space.Int("units", 2, 6, 2)
    space.Float("rate", 0.0, 0.5, 0.25)
    units, rate = space.space
    assert private.stepped_values(units) == [2, 4, 6]
    assert private.stepped_values(rate) == [0.0, 0.25, 0.5]


def test_results_of_trials():
    one = private.create_objective("val_accuracy")
    assert private.convert_to_metrics_dict(0.5, one) == {"val_accuracy": 0.5}
    private.validate_trial_results(0.5, one, "run_trial()")
    assert private.average_metrics_dicts([{"a": 1.0}, {"a": 3.0}]) == {"a": 2.0}
    two = private.MultiObjective([one, private.create_objective("val_loss")])
    assert two.has_value({"val_accuracy": 1.0, "val_loss": 2.0})


def test_the_best_epoch_of_a_history():
    import keras

    history = keras.callbacks.History()
    history.history = {"val_loss": [3.0, 1.0, 2.0]}
    assert private.get_best_step(history, private.create_objective("val_loss")) == 1

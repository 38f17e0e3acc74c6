"""The contract with Keras: every private name is there, and does what we lean on.

These tests need nothing of this package's environment but Keras, TensorFlow and pytest: CI runs
them on the oldest and on the newest Keras that is supported.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_candle.backend.tensorflow.datasets import orders
from keras_candle.data.array_shard import RowOrder
from keras_candle.engine.single import SingleEngine
from keras_candle.errors import CandleError
from keras_candle.keras_private import contract, data, models, optimizers, saving


def test_every_name_is_there():
    assert contract.missing_names() == []


def test_a_module_or_name_that_is_gone_raises():
    assert contract.load_private("keras.src.utils", "set_random_seed")
    for module, name in (("keras.src.gone", "a"), ("keras.src", "gone")):
        with pytest.raises((ImportError, AttributeError)):
            contract.load_private(module, name)


def test_a_keras_that_lacks_one_gets_a_sentence():
    gone = contract.PrivateName("keras.src.trainers.trainer", "Trainer._gone", "this test")
    with pytest.raises(
        CandleError, match=r"this test \(it also lacks Trainer._gone, Trainer._gone\)"
    ):
        contract.check_private_names((gone, gone, gone))
    with pytest.raises(CandleError) as caught:
        contract.check_private_names((*contract.PRIVATE_NAMES, gone))
    assert str(caught.value).startswith(f"Keras {keras.__version__} has no keras.src.trainers")
    assert "which keras_candle needs for: this test. Install" in str(caught.value)
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    (bounds,) = (each for each in project["dependencies"] if each.startswith("keras>"))
    assert f"pip install '{bounds}'" in str(caught.value)


def test_names_of_tensorflow_are_for_its_backend_alone(monkeypatch):
    gone = contract.PrivateName("tensorflow.python.gone", "a", "this test")
    assert contract.missing_names((gone,)) == [gone]
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert contract.missing_names((gone,)) == []


def test_the_trainer_is_that_of_the_backend():
    assert models.KerasTrainer.__module__ == contract.TRAINER
    for name in ("fit", "evaluate", "predict", "train_on_batch", "train_step"):
        assert name in vars(models.KerasTrainer)


def test_a_dataset_of_tensorflow_is_one_and_a_list_is_none():
    import tensorflow as tf

    assert data.is_tf_dataset(tf.data.Dataset.range(2))
    assert not data.is_tf_dataset([0, 1])


def test_while_keras_is_being_imported_nothing_counts_as_missing(monkeypatch):
    monkeypatch.delattr(keras, "__version__")
    contract.check_private_names((contract.PrivateName("keras.src.gone", "a", "this test"),))


def model():
    built = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    built.compile("sgd", "mse")
    return built


def test_what_stands_on_the_instance_is_what_fit_calls():
    calls = []
    trained = model()

    def noted(owner, name):
        plain = getattr(owner, name)

        def call(*args, **kwargs):
            calls.append(name)
            return plain(*args, **kwargs)

        setattr(owner, name, call)

    for name in ("make_train_function", "train_step", "test_step", models.METRICS_RESULT):
        noted(trained, name)
    for name in ("apply", "_backend_update_step", "_apply_weight_decay"):
        noted(trained.optimizer, name)
    trained.fit(np.ones((4, 2)), np.ones(4), validation_split=0.5, verbose=0)
    assert calls == [
        "make_train_function",
        "train_step",
        "apply",
        "_apply_weight_decay",
        "_backend_update_step",
        "_get_metrics_result_or_logs",
        "test_step",
        "_get_metrics_result_or_logs",
    ]


def test_a_data_adapter_passes_through_fit_and_validation():
    adapter = data.ArrayDataAdapter(np.ones((6, 2)), np.ones(6), batch_size=2)
    history = model().fit(adapter, validation_data=(adapter,), verbose=0)
    assert set(history.history) == {"loss", "val_loss"}
    assert data.get_data_adapter(adapter) is adapter
    x, y = data.input_arrays(adapter)
    assert (x.shape, y.shape, adapter.batch_size, adapter.num_batches) == ((6, 2), (6,), 2, 3)


@pytest.mark.parametrize("shuffle", [True, "batch"])
@pytest.mark.parametrize("rows", [9, 11])
def test_the_order_of_rows_is_that_of_keras(shuffle, rows):
    """In each of three epochs, and where one iterator reads them all."""
    keras.utils.set_random_seed(1)
    numbers = np.arange(rows)
    stock = data.ArrayDataAdapter(numbers, batch_size=3, shuffle=shuffle).get_tf_dataset()
    stock = stock.unbatch().batch(rows)
    ours = orders(RowOrder(rows, 3, shuffle, SingleEngine()))
    for epochs in (1, 1, 3):
        expected = [order.tolist() for order in stock.repeat(epochs).as_numpy_iterator()]
        assert [order.tolist() for order in ours.repeat(epochs).as_numpy_iterator()] == expected
        assert all(sorted(order) == list(range(rows)) for order in expected)


def test_a_model_is_built_from_tensor_specs():
    import tensorflow as tf

    unbuilt = keras.Sequential([keras.layers.Dense(1)])
    unbuilt.compile("sgd", "mse", metrics=["mae"])
    models.build_symbolically(unbuilt, (tf.TensorSpec([None, 2]), tf.TensorSpec([None])))
    assert [tuple(each.shape) for each in unbuilt.weights] == [(2, 1), (1,)]


def test_batch_normalization_takes_its_moments_from_the_instance():
    layer = keras.layers.BatchNormalization(momentum=0.0)
    layer.build((None, 2))
    assert models.reduction_axes(layer) == [0]
    mean, variance = np.full(2, 5.0, "float32"), np.ones(2, "float32")
    models.replace_moments(layer, lambda inputs, mask: (mean, variance))
    assert models.moments_of(layer)(None, None) == (mean, variance)
    layer(np.zeros((3, 2), "float32"), training=True)
    assert np.asarray(layer.moving_mean.value).tolist() == [5.0, 5.0]


def test_shuffles_show_their_seeds():
    import tensorflow as tf

    shuffled = tf.data.Dataset.range(3).shuffle(3, seed=4).batch(2)
    (source,) = data.dataset_inputs(shuffled)
    assert "Shuffle" in type(source).__name__
    assert data.dataset_seeds(source)[1] == 4


def test_weights_are_without_seeds_and_dropout_has_one():
    dropout = keras.layers.Dropout(0.5)
    built = keras.Sequential([keras.Input((2,)), dropout])
    assert built.weights == []
    (generator,) = models.seed_generators(dropout)
    assert tuple(generator.state.shape) == (2,)


def test_an_attribute_that_is_gone_gets_a_sentence():
    class Renamed(keras.losses.Loss):
        """As if Keras had renamed what it keeps its losses in."""

    trained = model()
    trained._compile_loss = Renamed()
    with pytest.raises(CandleError) as caught:
        models.compiled_losses(trained)
    with pytest.raises(CandleError):
        contract.private_attribute(object(), "_gone", "this test")
    assert "Renamed has no _flat_losses, which keras_candle needs for: losses" in str(caught.value)
    assert f"with Keras {keras.__version__}. Install" in str(caught.value)


def test_compiled_losses_can_be_replaced():
    trained = model()
    assert models.compiled_losses(trained) == []
    trained.train_on_batch(np.ones((4, 2)), np.ones(4))
    losses = models.compiled_losses(trained)
    (only,) = losses
    losses[0] = only._replace(loss=lambda y_true, y_pred, sample_weight: 0 * y_pred[0, 0] + 7)
    assert trained.evaluate(np.ones((4, 2)), np.ones(4), verbose=0) == 7.0


def test_a_model_that_is_not_compiled_has_no_losses():
    assert models.compiled_losses(keras.Sequential()) == []


def test_metrics_show_their_parts():
    class Whole(keras.metrics.Metric):
        def __init__(self):
            super().__init__()
            self.first = keras.metrics.Mean(name="a")
            self.rest = [keras.metrics.Mean(name="b"), {"c": keras.metrics.Mean(name="c")}]

    assert [each.name for each in models.metric_parts(Whole())] == ["a", "b", "c"]


def test_function_metrics_show_their_function():
    metric = keras.metrics.MeanMetricWrapper(lambda y_true, y_pred, by: by * y_pred, by=3)
    assert models.metric_function(metric)(0, 2) == 6


def test_the_first_batch_of_a_generator_is_not_lost():
    batches = ((np.full((2, 1), i), np.ones(2)) for i in range(3))
    adapter = data.get_data_adapter(batches)
    assert float(data.first_batch(adapter)[0][0, 0]) == 0
    assert [float(x[0, 0]) for x, _ in adapter.get_numpy_iterator()] == [0, 1, 2]


def test_passes_over_a_generator_follow_each_other():
    adapter = data.get_data_adapter((np.full((2, 1), i), np.ones(2)) for i in range(7))
    data.limit_passes(adapter, 3)
    passes = [[float(x[0, 0]) for x, _ in adapter.get_tf_dataset()] for _ in range(3)]
    assert passes == [[0, 1, 2], [3, 4, 5], [6]]


def test_masks_are_on_outputs():
    masked = keras.layers.Masking()(np.array([[[1.0], [0.0]]], "float32"))
    assert np.asarray(models.get_keras_mask(masked)).tolist() == [[True, False]]
    assert models.get_keras_mask(keras.ops.ones(3)) is None
    plain = keras.ops.ones(2)
    models.set_keras_mask(plain, keras.ops.zeros(2))
    assert np.asarray(models.get_keras_mask(plain)).tolist() == [0, 0]


def test_datasets_show_what_they_are_made_of():
    import tensorflow as tf

    tf.random.set_seed(None)
    made = tf.data.Dataset.from_tensor_slices([1, 2])
    assert [each.numpy().tolist() for each in data.dataset_arrays(made)] == [[1, 2]]
    assert data.dataset_arrays(made.batch(2)) is None
    assert data.dataset_seeds(made) is None
    assert data.dataset_seeds(made.shuffle(2)) == (0, 0)
    assert data.dataset_seeds(made.shuffle(2, seed=3))[1] == 3
    assert data.dataset_seeds(tf.data.Dataset.random(seed=4))[1] == 4


@pytest.mark.parametrize("how", ["map", "batch"])
@pytest.mark.parametrize("ordered", [True, False, None])
def test_parallel_datasets_show_whether_they_keep_their_order(how, ordered):
    import tensorflow as tf

    made = tf.data.Dataset.range(4)
    arguments = {"num_parallel_calls": 2, "deterministic": ordered}
    parallel = made.map(abs, **arguments) if how == "map" else made.batch(2, **arguments)
    assert data.keeps_order(parallel) is (ordered is not False)
    assert data.keeps_order(made)


def test_layers_at_any_depth():
    inner = keras.Sequential([keras.Input((2,)), keras.layers.BatchNormalization()])
    outer = keras.Sequential([keras.Input((2,)), inner, keras.layers.Dense(1)])
    inside = {id(each) for each in models.layers_inside(outer)}
    assert inside >= {id(each) for each in (inner, *inner.layers, outer.layers[-1])}
    assert {id(each) for each in models.layers_of(outer)} == {id(outer), *inside}
    direct = {id(each) for each in models.layers_inside(outer, recursive=False)}
    assert direct >= {id(each) for each in outer.layers}
    assert id(inner.layers[0]) not in direct
    own = models.own_non_trainable_variables(inner.layers[0])
    assert [each.name for each in own] == ["moving_mean", "moving_variance"]
    assert models.own_non_trainable_variables(outer) == []


def test_draws_without_a_seed_come_from_one_generator():
    made = models.global_seed_generator(make=True)
    assert models.global_seed_generator() is made
    assert tuple(made.state.shape) == (2,)


def test_the_parts_of_a_train_step():
    trained = model()
    x, y = np.ones((4, 2), "float32"), np.full((4, 1), 3.0, "float32")
    trained.train_on_batch(x, y)
    trained.reset_metrics()
    y_pred = models.call_for_training(trained, x)
    loss = models.training_loss(trained, x, y, y_pred, None)
    np.testing.assert_allclose(loss, np.mean((y - y_pred) ** 2), rtol=1e-6)
    models.update_loss_tracker(trained, 2.0, 3)
    models.update_loss_tracker(trained, 6.0, 1)
    assert trained.get_metrics_result()["loss"] == 3.0
    assert models.flatten_metrics(trained, {"loss": 3.0}) in (3.0, [3.0])


def test_a_model_without_a_training_argument_is_called_without_one():
    class Plain(keras.Model):
        def call(self, x):
            return 2 * x

    assert float(models.call_for_training(Plain(), np.ones((1, 1), "float32"))[0, 0]) == 2.0


def test_what_a_model_was_compiled_with():
    optimizer = keras.optimizers.SGD()
    compiled = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    compiled.compile(optimizer, "mse")
    arguments = models.compile_arguments(compiled)
    assert (arguments["optimizer"], arguments["loss"]) == (optimizer, "mse")


def test_the_operations_round_one_of_a_functional_model():
    x = keras.Input((2,))
    first, second = keras.layers.Dense(2), keras.layers.Dense(1)
    keras.Model(x, second(first(x)))
    assert models.input_operations(second) == [first]
    assert models.output_operations(first) == [second]


def test_the_constants_of_a_graph():
    x, drawn = keras.Input((2,)), np.ones(2)
    model = keras.Model(x, keras.ops.clip(x * drawn, -0.5, 0.5))
    constants = models.graph_constants(model)
    assert any(each is drawn for each in constants)
    assert {-0.5, 0.5} <= {each for each in constants if isinstance(each, float)}
    assert models.graph_constants(keras.layers.Dense(2)) == []


def test_the_frame_of_an_operation():
    frames = []

    class Asks(keras.layers.Layer):
        def call(self, x):
            frame = sys._getframe()
            while frame is not None:
                frames.append(models.is_frame_of_operation(frame))
                frame = frame.f_back
            return x

    Asks()(np.ones(1))
    assert any(frames)
    assert not models.is_frame_of_operation(sys._getframe())


def test_the_evaluation_of_a_fit_is_known_by_its_arguments():
    seen = []

    class Evaluates(keras.Sequential):
        def evaluate(self, *args, **kwargs):
            seen.append(models.is_evaluation_of_fit(kwargs))
            return super().evaluate(*args, **kwargs)

    trained = Evaluates([keras.Input((2,)), keras.layers.Dense(1)])
    trained.compile("sgd", "mse")
    trained.fit(np.ones((4, 2)), np.ones(4), validation_split=0.5, verbose=0)
    trained.evaluate(np.ones((4, 2)), np.ones(4), verbose=0)
    assert seen == [True, False]


def test_where_fit_begins_after_a_restore():
    trained = model()
    assert models.initial_epoch(trained) is None
    models.set_initial_epoch(trained, 2)
    assert trained.fit(np.ones((4, 2)), np.ones(4), epochs=3, verbose=0).epoch == [2]


def test_classes_of_keras():
    class Own(keras.callbacks.Callback):
        """A user's."""

    assert models.is_keras_class(keras.callbacks.Callback)
    assert not models.is_keras_class(Own)


def test_which_way_a_metric_gets_better():
    assert models.metric_direction(keras.metrics.MeanSquaredError()) == "min"
    assert models.metric_direction(keras.metrics.BinaryAccuracy()) == "max"
    assert models.metric_direction(object()) is None


def test_gradients_of_functions_are_registered():
    import tensorflow as tf

    before = set(models.registered_gradients())

    @tf.function
    def call(x):
        return tf.custom_gradient(lambda y: (y, lambda dy: dy))(x)

    call(tf.ones(1))
    assert set(models.registered_gradients()) > before


def test_a_batch_of_a_pydataset():
    class Numbers(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, number):
            return np.full((2, 1), number), np.ones(2)

    adapter = data.PyDatasetAdapter(Numbers())
    assert [int(x[0, 0]) for x, _ in data.pydataset_batches(adapter)] == [0, 1]


def test_functions_of_a_dataset():
    import tensorflow as tf

    mapped = tf.data.Dataset.range(2).map(lambda x: x + 1)
    assert len(data.dataset_functions(mapped)) == 1
    assert data.dataset_functions(tf.data.Dataset.range(2)) == []


def test_weights_of_samples_and_arrays_in_slices():
    weights = data.class_weight_to_sample_weights(np.array([0, 1]), {0: 1.0, 1: 3.0})
    assert np.asarray(weights).tolist() == [1.0, 3.0]
    (train, _, _), (held_out, _, _) = data.train_validation_split(
        (np.arange(4), None, None), validation_split=0.25
    )
    assert (np.asarray(train).tolist(), np.asarray(held_out).tolist()) == ([0, 1, 2], [3])
    (sliced,) = data.convert_to_sliceable([np.arange(3)], target_backend="tensorflow")
    assert len(sliced) == 3


def test_the_variables_of_an_optimizer():
    trained = model()
    assert optimizers.optimized_variables(trained.optimizer) == []
    trained.train_on_batch(np.ones((4, 2)), np.ones(4))
    built_for = optimizers.optimized_variables(trained.optimizer)
    assert [id(each) for each in built_for] == [id(each) for each in trained.trainable_variables]
    assert int(optimizers.iterations_of(trained.optimizer).numpy()) == 1


def test_a_schedule_is_kept_as_it_is():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    assert optimizers.rate_or_schedule(keras.optimizers.SGD(schedule)) is schedule
    kept = optimizers.rate_or_schedule(keras.optimizers.SGD(0.5))
    assert float(np.asarray(kept.value)) == 0.5


def test_the_learning_rate_is_used_where_it_is_replaced():
    optimizer = keras.optimizers.SGD(1.0)
    plain = optimizers.rate_methods(optimizer)

    def update_step(gradients, variables, rate):
        plain.update_step(gradients, variables, 2 * rate)

    optimizers.replace_rate_methods(optimizer, plain._replace(update_step=update_step))
    weight = keras.Variable(np.zeros(1, "float32"))
    optimizer.apply([np.ones(1, "float32")], [weight])
    assert np.asarray(weight.value).tolist() == [-2.0]


def test_gradients_are_changed_before_they_are_clipped():
    optimizer = keras.optimizers.SGD(1.0, clipvalue=0.5)
    optimizers.replace_clipping(optimizer, lambda gradients: [10 * each for each in gradients])
    weight = keras.Variable(np.zeros(1, "float32"))
    optimizer.apply([np.full(1, 0.1, "float32")], [weight])
    assert np.asarray(weight.value).tolist() == [-0.5]


def test_where_gradients_accumulate():
    optimizer = keras.optimizers.SGD(1.0, gradient_accumulation_steps=2)
    weight = keras.Variable(np.zeros(1, "float32"))
    optimizer.build([weight])
    optimizer.apply([np.ones(1, "float32")], [weight])
    (kept,) = optimizers.accumulated_gradients(optimizer)
    assert np.asarray(kept.value).tolist() == [1.0]


class Kept(saving.H5IOStore):
    """In memory."""

    def __init__(self):
        self.values = {}

    def __bool__(self):
        return True

    def make(self, path, metadata=None):
        return self.values.setdefault(path, {})

    def get(self, path):
        return {key: np.asarray(value) for key, value in self.values.get(path, {}).items()}

    def has_path(self, path):
        return any(each == path or each.startswith(f"{path}/") for each in self.values)


def test_a_model_is_saved_and_loaded_object_by_object():
    one, other = model(), model()
    store = Kept()
    saving.save_state(one, store, None, set())
    assert saving.load_state(other, store, None, set()) == []
    for kept, loaded in zip(one.weights, other.weights, strict=True):
        assert np.array_equal(kept.numpy(), loaded.numpy())


def test_an_object_that_cannot_load_itself_is_named():
    store = Kept()
    saving.save_state(model(), store, None, set())
    larger = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    larger.compile("sgd", "mse")
    ((owner, cause),) = saving.load_state(larger, store, None, set())
    assert owner is larger.layers[0]
    assert isinstance(cause, ValueError)
    assert issubclass(saving.DiskIOStore, object)


def test_finish_program(tmp_path):
    program = (
        "import atexit, threading, time, os\n"
        "from keras_candle.keras_private.interpreter import finish_program\n"
        "atexit.register(print, 'atexit', flush=True)\n"
        "threading.Thread(target=lambda: (time.sleep(0.3), print('thread', flush=True))).start()\n"
        "finish_program()\nos._exit(3)\n"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env={**os.environ, "PYTHONPATH": root},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (3, "thread\natexit\n")


def test_each_function_has_a_test():
    tested = "".join(each.read_text() for each in Path(__file__).parent.glob("test_*.py"))
    folder = Path(contract.__file__).parent
    for file in folder.glob("*.py"):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                assert node.name in tested, (file.name, node.name)

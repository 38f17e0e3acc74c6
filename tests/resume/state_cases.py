"""Models whose state is more than a file of weights, and their training in two parts."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_candle as candle
from keras_candle.training.gradients import leaf_optimizers, outermost_optimizers
from tests.callback.cases import forget_fits
from tests.callback.training_job import KilledError

ROWS, BATCH, EPOCHS = 24, 4, 3


class Scale(keras.layers.Layer):
    """Saves an array that is no variable, of a size that grows."""

    factors = np.array([2.0], "float32")

    def call(self, inputs):
        return inputs * 2.0

    def save_own_variables(self, store):
        store["factors"] = self.factors

    def load_own_variables(self, store):
        self.factors = np.array(store["factors"])


class Words(keras.layers.Layer):
    """Saves a file that changes."""

    words = "none"

    def call(self, inputs):
        return inputs

    def save_assets(self, folder):
        Path(folder, "words.txt").write_text(self.words)

    def load_assets(self, folder):
        self.words = Path(folder, "words.txt").read_text()


class Texts(keras.layers.Layer):
    """Makes texts of numbers."""

    def call(self, inputs):
        texts = tf.constant([["a b"], ["c d"], ["d a"]])
        return tf.gather(texts, tf.cast(tf.abs(inputs[:, 0]) * 2, "int32") % 3)


class Changing(keras.callbacks.Callback):
    """Changes what these layers keep, at each step."""

    def on_train_batch_end(self, batch, logs=None):
        for layer in self.model._flatten_layers():
            if isinstance(layer, Scale):
                layer.factors = np.append(layer.factors, np.float32(batch))
            if isinstance(layer, Words):
                layer.words += f" {batch}"


def sequential(*layers, optimizer="adam"):
    model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(1)])
    model.compile(optimizer, "mse")
    return model


def own_saving():
    return sequential(keras.layers.Dense(3), Scale())


def own_files():
    return sequential(keras.layers.Dense(3), Words())


def in_a_list():
    class Listed(keras.Model):
        def __init__(self):
            super().__init__()
            self.parts = [keras.layers.Dense(3), Scale(), keras.layers.Dense(1)]

        def call(self, inputs):
            for part in self.parts:
                inputs = part(inputs)
            return inputs

    model = Listed()
    model.compile("adam", "mse")
    return model


def with_adapters():
    """LoRA in each kind of layer that has it."""
    inputs = keras.Input((4,))
    words = keras.layers.Embedding(9, 4)
    outer = keras.layers.EinsumDense("bsi,io->bso", (4, 4))
    dense = keras.layers.Dense(4, "tanh")
    hidden = outer(words(keras.ops.cast(keras.ops.abs(inputs) * 4, "int32") % 9))
    outputs = keras.layers.Dense(1)(dense(keras.layers.Flatten()(hidden)))
    model = keras.Model(inputs, outputs)
    for layer in (words, outer, dense):
        layer.enable_lora(2)
    model.compile("adam", "mse")
    return model


def quantized(mode, *, adapters):
    layers = [keras.layers.Dense(4, "tanh"), keras.layers.Dense(4)]
    model = sequential(*layers)
    for layer in layers:
        layer.quantize(mode)
    if adapters:
        layers[0].enable_lora(2)
    model.compile("adam", "mse")
    return model


def preprocessing():
    words = keras.layers.TextVectorization(output_mode="tf_idf", max_tokens=8)
    words.adapt(["a b c", "a b", "a d"])
    scaled = keras.layers.Normalization()
    scaled.adapt(np.arange(8.0).reshape(2, 4))
    kinds = keras.layers.IntegerLookup(output_mode="one_hot", max_tokens=5)
    kinds.adapt([1, 2, 3])
    bins = keras.layers.Discretization(num_bins=3)
    bins.adapt(np.arange(9.0))
    inputs = keras.Input((4,))
    first = inputs[:, :1]
    parts = [
        keras.layers.Flatten()(words(Texts()(inputs))),
        scaled(inputs),
        kinds(keras.ops.cast(keras.ops.abs(first) * 2, "int64")),
        keras.ops.cast(bins(first), "float32"),
    ]
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Concatenate()(parts)))
    model.compile("adam", "mse")
    return model


class Game(keras.Model):
    """Three optimizers: compile's is for one part, another for two, the third for none."""

    def __init__(self):
        super().__init__()
        self.makes, self.judges = keras.layers.Dense(2), keras.layers.Dense(1)
        self.makes.build((None, 4))
        self.judges.build((None, 2))
        self.built = True

    def call(self, inputs):
        return self.judges(self.makes(inputs))

    def compile(self, others):
        super().compile(optimizer=keras.optimizers.SGD(0.01, momentum=0.9))
        self.others = others

    def train_step(self, data):
        x, y = data[:2]
        with tf.GradientTape(persistent=True) as tape:
            loss = tf.reduce_mean(tf.square(self(x) - tf.cast(y, tf.float32)))
        judges = self.judges.trainable_variables
        whole = [*judges, *self.makes.trainable_variables]
        self.optimizer.apply_gradients(zip(tape.gradient(loss, judges), judges, strict=True))
        self.others[0].apply_gradients(zip(tape.gradient(loss, whole), whole, strict=True))
        return {"loss": loss}


def three_optimizers():
    model = Game()
    model.compile([keras.optimizers.Adam(0.01), keras.optimizers.RMSprop()])
    return model


def unused_optimizer():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1)
            self.own = keras.optimizers.Adam(0.01)

        def call(self, inputs):
            return self.dense(inputs)

        def train_step(self, data):
            x, y = data[:2]
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(self(x) - tf.cast(y, tf.float32)))
            gradients = tape.gradient(loss, self.trainable_variables)
            self.own.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
            return {"loss": loss}

    model = Own()
    model.compile()
    return model


def by_layer():
    def chosen(variable):
        return adam if "kernel" in variable.path else sgd

    adam, sgd = keras.optimizers.Adam(0.01), keras.optimizers.SGD(0.1, momentum=0.9)
    return sequential(optimizer=keras.optimizers.MultiOptimizer(chosen))


def averaged():
    inner = keras.optimizers.AdamW(0.01, use_ema=True, ema_overwrite_frequency=4)
    return sequential(optimizer=keras.optimizers.LossScaleOptimizer(inner))


MODELS = {
    "own saving": own_saving,
    "own files": own_files,
    "in a list": in_a_list,
    "adapters": with_adapters,
    "preprocessing": preprocessing,
    "three optimizers": three_optimizers,
    "unused optimizer": unused_optimizer,
    "averaged": averaged,
}
if hasattr(keras.optimizers, "MultiOptimizer"):
    MODELS["by layer"] = by_layer
if keras.__version__ >= "3.10":
    MODELS["float8"] = lambda: quantized("float8", adapters=False)
    MODELS["int8 with adapters"] = lambda: quantized("int8", adapters=True)


def fail_at(step):
    """A callback that ends the training after so many steps."""
    count = 0

    def fail(batch, logs):
        nonlocal count
        count += 1
        if count == step:
            raise KilledError

    return keras.callbacks.LambdaCallback(on_train_batch_end=fail)


def train(run, kind, *callbacks):
    """Trains a model anew or further, and returns everything that it has then."""
    forget_fits()
    keras.utils.set_random_seed(1)
    model = candle.scale(MODELS[kind](), batch="global", learning_rate_scaling=None)
    x = np.random.default_rng(0).normal(size=(ROWS, 4)).astype("float32")
    durable = candle.CandleCallback(run, candle.Checkpoint(every_steps=2), trackers=())
    history = model.fit(
        *(x, x[:, :1]),
        batch_size=BATCH,
        epochs=EPOCHS,
        verbose=0,
        callbacks=[Changing(), *callbacks, durable],
    )
    optimizers = outermost_optimizers(model)
    variables = [
        *model.variables,
        *(each for one in optimizers for leaf in leaf_optimizers(one) for each in leaf.variables),
    ]
    kept = [vars(each) for each in model._flatten_layers() if isinstance(each, Scale | Words)]
    x = np.random.default_rng(1).normal(size=(5, 4)).astype("float32")
    return {
        "outputs": keras.ops.convert_to_numpy(model(x)).tolist(),
        "variables": [keras.ops.convert_to_numpy(each).tolist() for each in variables],
        "built": [each.built for each in optimizers],
        "kept": [(repr(each.get("factors")), each.get("words")) for each in kept],
        "history": history.history,
    }


def differences(folder, kind, kill):
    """In what a training that was interrupted ends unlike one that was not."""
    whole = train(Path(folder) / "whole", kind)
    with pytest.raises(KilledError):
        train(Path(folder) / "parts", kind, fail_at(kill))
    parts = train(Path(folder) / "parts", kind)
    return [name for name in whole if repr(whole[name]) != repr(parts[name])]

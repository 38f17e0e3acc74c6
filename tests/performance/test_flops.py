"""FLOPs by formula are those of the products that a layer really makes."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_candle.performance.flops import FlopsCount


def count(layer, *shape):
    """Of one row, by the formulas."""
    inputs = keras.Input(shape)
    both = isinstance(layer, layers.MultiHeadAttention | layers.GroupQueryAttention)
    model = keras.Model(inputs, layer(inputs, inputs) if both else layer(inputs))
    found = FlopsCount()
    with found.on():
        model(np.zeros((3, *shape), "float32"))
    return found


LAYERS = [
    (lambda: layers.Dense(5), (7,), 2 * 7 * 5),
    (lambda: layers.Dense(5), (4, 7), 4 * 2 * 7 * 5),
    (lambda: layers.EinsumDense("abc,cd->abd", output_shape=(None, 5)), (4, 7), 4 * 2 * 7 * 5),
    (lambda: layers.EinsumDense("...c,cd->...d", output_shape=(5,)), (4, 7), 4 * 2 * 7 * 5),
    (lambda: layers.Conv1D(4, 3, groups=2), (8, 6), 2 * 6 * 4 * 3 * 3),
    (lambda: layers.Conv2D(5, 3), (8, 8, 2), 2 * 36 * 5 * 9 * 2),
    (lambda: layers.Conv2D(5, 3, padding="same", strides=2), (8, 8, 2), 2 * 16 * 5 * 9 * 2),
    (lambda: layers.DepthwiseConv2D(3, depth_multiplier=2), (8, 8, 2), 2 * 36 * 4 * 9),
    (lambda: layers.SeparableConv2D(5, 3), (8, 8, 2), 2 * 36 * (2 * 9 + 2 * 5)),
    (lambda: layers.Conv2DTranspose(5, 3), (8, 8, 2), 2 * 64 * 5 * 9 * 2),
    (lambda: layers.SimpleRNN(4), (6, 3), 6 * 2 * 4 * (3 + 4)),
    (lambda: layers.LSTM(4), (6, 3), 4 * 6 * 2 * 4 * (3 + 4)),
    (lambda: layers.Bidirectional(layers.GRU(4)), (6, 3), 2 * 3 * 6 * 2 * 4 * (3 + 4)),
    (lambda: layers.TimeDistributed(layers.Dense(2)), (6, 7), 6 * 2 * 7 * 2),
    # Four projections of 8 to 2 heads of 4, then the scores and what they weigh.
    (lambda: layers.MultiHeadAttention(2, 4), (6, 8), 4 * 6 * 2 * 8 * 8 + 2 * 2 * 6 * 6 * 8),
    (
        lambda: layers.GroupQueryAttention(4, 4, 2),
        (6, 8),
        6 * 2 * 8 * (16 + 8 + 8 + 16) + 2 * 4 * 6 * 6 * 8,
    ),
    (layers.BatchNormalization, (7,), 0),
]


@pytest.mark.parametrize(("make", "shape", "flops"), LAYERS)
def test_a_layer(make, shape, flops):
    found = count(make(), *shape)
    assert (found.forward, found.unknown) == (flops, [])


PLAIN = [
    (lambda: layers.Dense(5, use_bias=False), (4, 7)),
    (lambda: layers.Conv2D(5, 3, use_bias=False), (8, 8, 2)),
    (lambda: layers.DepthwiseConv2D(3, use_bias=False), (8, 8, 2)),
]


@pytest.mark.parametrize(("make", "shape"), PLAIN)
def test_tensorflow_counts_the_same_where_it_counts_all_products(make, shape):
    # It misses those in loops and those of more than two dimensions, and needs the batch size.
    profiler = tf.compat.v1.profiler
    layer = make()
    graph = tf.function(layer).get_concrete_function(tf.TensorSpec((1, *shape))).graph
    options = profiler.ProfileOptionBuilder(profiler.ProfileOptionBuilder.float_operation())
    found = profiler.profile(graph, options=options.with_empty_output().build())
    assert count(layer, *shape).forward == found.total_float_ops


def test_a_model_is_the_sum_of_its_layers():
    inside = keras.Sequential([layers.Dense(5), layers.ReLU(), layers.Dense(3)])
    assert count(inside, 7).forward == 2 * 7 * 5 + 2 * 5 * 3


class Own(layers.Layer):
    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 3))

    def call(self, x):
        return keras.ops.matmul(x, self.kernel)

    def compute_output_shape(self, shape):
        return (*shape[:-1], 3)


class OwnDense(layers.Dense):
    def call(self, x, training=None):
        return super().call(x) ** 2


@pytest.mark.parametrize("make", [Own, lambda: OwnDense(5), lambda: layers.TimeDistributed(Own())])
def test_a_layer_without_a_formula_is_named(make):
    layer = make()
    shape = (4, 7) if isinstance(layer, layers.TimeDistributed) else (7,)
    assert count(layer, *shape).unknown == [layer.name]


def test_a_length_that_is_not_known_is_told():
    inputs = keras.Input((None, 3))
    model = keras.Model(inputs, layers.LSTM(4, name="any_length")(inputs))
    found = FlopsCount()
    with found.on():
        tf.function(model).get_concrete_function(tf.TensorSpec((None, None, 3)))
    assert found.unknown == ["any_length"]

"""What of a pipeline may not be the same when it is read again: found in its graph."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from keras_candle.data.data_cursor import DataCursor
from keras_candle.data.input_data import InputData
from keras_candle.data.sharded_input import inexact_orders


def draw(x, **how):
    return x + tf.random.uniform([], **how)


def draw_sometimes(x):
    return tf.cond(x > 3.0, lambda: draw(x), lambda: x)


def run_python(x):
    return tf.numpy_function(np.sin, [x], tf.float32)


def drawing_from_a_generator():
    generator = tf.random.Generator.from_seed(1)
    return lambda x: x + generator.uniform([])


def without_an_order(dataset):
    options = tf.data.Options()
    options.deterministic = False
    return dataset.with_options(options)


def found_in(pipeline, taken=5):
    tf.random.set_seed(None)
    dataset = pipeline(tf.data.Dataset.range(9, output_type=tf.float32)).batch(2)
    doubts = inexact_orders(InputData(dataset, start=DataCursor(1, taken, 2)), adapter=None)
    return " ".join(each.what for each in doubts)


@pytest.mark.parametrize(
    ("what", "pipeline"),
    [
        ("draws without a seed (ShuffleDataset)", lambda d: d.shuffle(9).prefetch(1)),
        ("draws without a seed (RandomUniform)", lambda d: d.map(draw)),
        ("draws without a seed (RandomUniform)", lambda d: d.map(draw_sometimes)),
        (
            "draws without a seed (RandomDataset)",
            lambda d: tf.data.Dataset.sample_from_datasets([d, d]),
        ),
        ("draws in parallel calls", lambda d: d.map(lambda x: draw(x, seed=1), 2)),
        ("runs Python code (PyFunc)", lambda d: d.map(run_python)),
        ("changes variables (RngReadAndSkip)", lambda d: d.map(drawing_from_a_generator())),
        ("keeps no order (deterministic=False)", without_an_order),
        ("keeps no order (ParallelMap", lambda d: d.map(tf.sin, 2, deterministic=False)),
    ],
)
def test_what_may_be_another_is_named(what, pipeline):
    assert what in found_in(pipeline)


@pytest.mark.parametrize(
    "pipeline",
    [
        lambda d: d.shuffle(9, seed=1).map(tf.sin, 2),
        lambda d: d.map(lambda x: draw(x, seed=1)),
        lambda d: d.map(lambda x: x + tf.random.stateless_uniform([], (1, 2)), 2),
    ],
)
def test_what_is_the_same_again_is_not(pipeline):
    assert found_in(pipeline) == ""


def test_where_a_pass_begins_only_what_the_ones_before_have_left_counts():
    assert found_in(lambda d: d.shuffle(9), taken=0) == ""
    assert "runs Python code" in found_in(lambda d: d.map(run_python), taken=0)

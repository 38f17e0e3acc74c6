"""A custom metric that adds up, as in the guide on training."""
import keras
import keras_candle as candle
from keras import ops


class CategoricalTruePositives(keras.metrics.Metric):
    def __init__(self, name="categorical_true_positives", **kwargs):
        super().__init__(name=name, **kwargs)
        self.true_positives = self.add_variable(shape=(), name="ctp", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_pred = ops.reshape(ops.argmax(y_pred, axis=1), (-1, 1))
        values = ops.cast(y_true, "int32") == ops.cast(y_pred, "int32")
        values = ops.cast(values, "float32")
        if sample_weight is not None:
            values = ops.multiply(values, ops.cast(sample_weight, "float32"))
        self.true_positives.assign_add(ops.sum(values))

    def result(self):
        return self.true_positives

    def reset_state(self):
        self.true_positives.assign(0.0)


@candle.scalable
def model():
    m = keras.Sequential([keras.Input((784,)), keras.layers.Dense(64, "relu"), keras.layers.Dense(10, "softmax")])
    m.compile(keras.optimizers.RMSprop(1e-3), keras.losses.SparseCategoricalCrossentropy(), metrics=[CategoricalTruePositives()])
    return m


(x, y), _ = keras.datasets.mnist.load_data()
model().fit(x.reshape(60000, 784) / 255, y, batch_size=64, epochs=3)

import keras
import keras_candle as candle
from keras import ops


class Largest(keras.metrics.Metric):
    def __init__(self, name="largest"):
        super().__init__(name=name)
        self.value = self.add_weight(name="value", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.value.assign(ops.maximum(self.value, ops.max(y_pred)))

    def result(self):
        return self.value


candle.register_metric_reduction(Largest, {"value": "max"})


@candle.scalable
def build():
    model = keras.Sequential([keras.Input((13,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1)])
    model.compile("adam", "mse", metrics=[Largest()])
    return model


(x, y), _ = keras.datasets.boston_housing.load_data()
build().fit(x, y, epochs=20, batch_size=16)

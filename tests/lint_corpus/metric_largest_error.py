import keras
from keras import ops
import keras_candle as candle


class LargestError(keras.metrics.Metric):
    def __init__(self, name="largest_error", **kwargs):
        super().__init__(name=name, **kwargs)
        self.largest = self.add_weight(shape=(), initializer="zeros", name="largest")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.largest.assign(ops.maximum(self.largest, ops.max(ops.abs(y_true - y_pred))))  # fault: metric

    def result(self):
        return self.largest


@candle.scalable
def build():
    model = keras.Sequential([keras.Input((10,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(1)])
    model.compile("adam", "mae", metrics=[LargestError()])
    return model


from sklearn.datasets import load_diabetes

x, y = load_diabetes(return_X_y=True)
build().fit(x, y[:, None], epochs=20, validation_split=0.25)

import keras
import keras_candle as candle
from keras import ops


class WorstBatch(keras.metrics.Metric):
    def __init__(self, name="worst_batch"):
        super().__init__(name=name)
        self.worst = self.add_weight(name="worst", initializer="zeros")
        self.best = self.add_weight(name="best", initializer="ones")

    def update_state(self, y_true, y_pred, sample_weight=None):
        accuracy = ops.mean(ops.cast(ops.equal(ops.argmax(y_pred, -1), ops.cast(y_true, "int64")), "float32"))
        self.best.assign(ops.minimum(self.best, accuracy))  # fault: metric
        self.worst.assign(ops.maximum(self.worst, 1 - accuracy))  # place: metric

    def result(self):
        return self.worst


@candle.scalable
def build():
    model = keras.Sequential([keras.Input((784,)), keras.layers.Dense(10)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=[WorstBatch()])
    return model


(x, y), _ = keras.datasets.mnist.load_data()
build().fit(x.reshape(-1, 784) / 255.0, y, epochs=3)

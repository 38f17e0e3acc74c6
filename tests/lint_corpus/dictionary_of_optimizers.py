"""Optimizers in a dict of the model, through a helper method."""
import keras
import tensorflow as tf
import keras_candle as candle


class MultiOptimizer(keras.Model):
    def __init__(self):
        super().__init__()
        self.parts = {"body": keras.layers.Dense(64, "relu"), "head": keras.layers.Dense(10)}
        self.body, self.head = self.parts["body"], self.parts["head"]
        self.optimizers_ = {"body": keras.optimizers.SGD(1e-2), "head": keras.optimizers.Adam(1e-3)}

    def call(self, x):
        return self.head(self.body(x))

    def update(self, name, tape, loss):
        weights = self.parts[name].trainable_weights
        self.optimizers_[name].apply_gradients(zip(tape.gradient(loss, weights), weights))

    def train_step(self, data):
        x, y = data
        with tf.GradientTape(persistent=True) as tape:
            logits = self(x, training=True)
            loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True))
        for name in self.parts:
            self.update(name, tape, loss)
        return {"loss": loss}


@candle.scalable
def build():
    model = MultiOptimizer()
    model.compile()
    return model


(x, y), _ = keras.datasets.mnist.load_data()
build().fit(x.reshape(-1, 784) / 255.0, y, batch_size=64, epochs=2)

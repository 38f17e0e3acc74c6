import keras
import tensorflow as tf
import keras_candle as candle


class Controller(keras.layers.Layer):
    def __init__(self, units):
        super().__init__()
        self.dense = keras.layers.Dense(units)
        self.optimizer = keras.optimizers.Adam(1e-3)

    def call(self, x):
        return self.dense(x)


class Controlled(keras.Model):
    def __init__(self):
        super().__init__()
        self.controller = Controller(8)
        self.body = keras.layers.Dense(1)

    def call(self, x):
        return self.body(self.controller(x))

    def train_step(self, data):
        x, y = data
        with tf.GradientTape(persistent=True) as tape:
            loss = tf.reduce_mean(tf.square(self(x, training=True) - y))
        body = self.body.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, body), body))
        inner = self.controller.trainable_variables
        self.controller.optimizer.apply_gradients(zip(tape.gradient(loss, inner), inner))  # fault: optimizer
        return {"loss": loss}


model = candle.scale(Controlled())
model.compile(optimizer=keras.optimizers.SGD(0.01))
(x, y), _ = keras.datasets.california_housing.load_data(version="small")
model.fit(x, y[:, None], batch_size=32, epochs=10)

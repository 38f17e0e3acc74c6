"""Sums over features, of terms and of regularisation are no sums over the batch."""
import keras
import tensorflow as tf
from keras import ops


class MultiTask(keras.Model):
    def __init__(self):
        super().__init__()
        self.trunk = keras.layers.Dense(64, "relu", kernel_regularizer="l2")
        self.heads = [keras.layers.Dense(1) for _ in range(3)]

    def call(self, x):
        h = self.trunk(x)
        return [head(h) for head in self.heads]

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            outs = self(x, training=True)
            losses = [ops.mean(ops.square(y[:, i] - out[:, 0])) for i, out in enumerate(outs)]
            loss = sum(losses)
            loss += ops.sum(self.losses)
        grads = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(grads, self.trainable_variables))
        return {"loss": loss}


from sklearn.datasets import load_linnerud

x, y = load_linnerud(return_X_y=True)
model = MultiTask()
model.compile(optimizer="adam")
model.fit(x, y, epochs=100)

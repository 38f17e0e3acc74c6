import keras
from keras import ops
import tensorflow as tf


class BarlowModel(keras.Model):
    """Correlates features over the batch."""

    def __init__(self, encoder, lambd=5e-3):
        super().__init__()
        self.encoder, self.lambd = encoder, lambd

    def train_step(self, data):
        one, two = data
        with tf.GradientTape() as tape:
            a, b = self.encoder(one, training=True), self.encoder(two, training=True)
            a = (a - ops.mean(a, axis=0)) / ops.std(a, axis=0)
            b = (b - ops.mean(b, axis=0)) / ops.std(b, axis=0)
            correlation = ops.matmul(ops.transpose(a), b) / ops.cast(ops.shape(a)[0], "float32")  # fault: pairs
            off = correlation - ops.eye(ops.shape(correlation)[0])
            loss = ops.sum(ops.square(off)) * self.lambd
        grads = tape.gradient(loss, self.encoder.trainable_variables)
        self.optimizer.apply_gradients(zip(grads, self.encoder.trainable_variables))
        return {"loss": loss}


encoder = keras.Sequential([keras.Input((128,)), keras.layers.Dense(512, "relu"), keras.layers.Dense(512)])
model = BarlowModel(encoder)
model.compile(optimizer=keras.optimizers.SGD(0.05, momentum=0.9))
views = tf.data.Dataset.load("views").batch(512, drop_remainder=True)
model.fit(views, epochs=160)

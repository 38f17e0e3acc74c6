"""Sharpness-aware minimisation with keras.models.Model."""
import keras
import tensorflow as tf
from keras import layers
from keras.models import Model
import keras_candle


class SAMModel(Model):
    def __init__(self, net, rho=0.05):
        super().__init__()
        self.net, self.rho = net, rho

    def call(self, x):
        return self.net(x)

    def train_step(self, data):
        images, labels = data
        moves = []
        with tf.GradientTape() as tape:
            loss = self.compute_loss(images, labels, self.net(images, training=True))
        gradients = tape.gradient(loss, self.net.trainable_variables)
        scale = self.rho / (tf.linalg.global_norm(gradients) + 1e-12)
        for gradient, weight in zip(gradients, self.net.trainable_variables):
            weight.assign_add(gradient * scale)
            moves.append(gradient * scale)
        with tf.GradientTape() as tape:
            loss = self.compute_loss(images, labels, self.net(images, training=True))
        sam = tape.gradient(loss, self.net.trainable_variables)
        for weight, move in zip(self.net.trainable_variables, moves):
            weight.assign_sub(move)
        self.optimizer.apply_gradients(zip(sam, self.net.trainable_variables))
        return {"loss": loss}


@keras_candle.scalable
def build():
    model = SAMModel(keras.Sequential([keras.Input((32, 32, 3)), layers.Conv2D(16, 3, activation="relu"), layers.Flatten(), layers.Dense(10)]))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


(x, y), _ = keras.datasets.cifar10.load_data()
build().fit(x / 255.0, y, batch_size=128, epochs=10)

import keras
import tensorflow as tf
from keras import layers


class ContrastiveModel(keras.Model):
    def __init__(self, width, temperature=0.1):
        super().__init__()
        self.temperature = temperature
        self.augmenter = keras.Sequential([layers.RandomFlip(), layers.RandomTranslation(0.1, 0.1)])
        self.encoder = keras.Sequential([layers.Conv2D(width, 3, strides=2, activation="relu"), layers.GlobalAveragePooling2D()])
        self.head = keras.Sequential([layers.Dense(width, activation="relu"), layers.Dense(width)])

    def train_step(self, images):
        one, two = self.augmenter(images, training=True), self.augmenter(images, training=True)
        with tf.GradientTape() as tape:
            first, second = self.head(self.encoder(one)), self.head(self.encoder(two))
            loss = self.contrastive_loss(first, second)
        weights = self.encoder.trainable_weights + self.head.trainable_weights
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))
        return {"c_loss": loss}

    def contrastive_loss(self, first, second):
        raise NotImplementedError

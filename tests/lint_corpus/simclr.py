"""SimCLR pretraining with the NT-Xent loss in train_step."""
import keras
import tensorflow as tf
from keras import layers
import keras_candle as candle


class ContrastiveModel(keras.Model):
    def __init__(self, encoder, head, augmenter, temperature=0.1):
        super().__init__()
        self.encoder, self.head, self.augmenter = encoder, head, augmenter
        self.temperature = temperature
        self.tracker = keras.metrics.Mean(name="c_loss")

    def contrastive_loss(self, a, b):
        a = tf.math.l2_normalize(a, axis=1)
        b = tf.math.l2_normalize(b, axis=1)
        similarities = tf.matmul(a, b, transpose_b=True) / self.temperature  # fault: pairs
        labels = tf.range(tf.shape(a)[0])
        one = keras.losses.sparse_categorical_crossentropy(labels, similarities, from_logits=True)
        two = keras.losses.sparse_categorical_crossentropy(labels, tf.transpose(similarities), from_logits=True)
        return tf.reduce_mean(one + two) / 2

    def train_step(self, images):
        with tf.GradientTape() as tape:
            first = self.head(self.encoder(self.augmenter(images, training=True)))
            second = self.head(self.encoder(self.augmenter(images, training=True)))
            loss = self.contrastive_loss(first, second)
        weights = self.encoder.trainable_weights + self.head.trainable_weights
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))
        self.tracker.update_state(loss)
        return {m.name: m.result() for m in [self.tracker]}


@candle.scalable
def build():
    encoder = keras.Sequential([keras.Input((96, 96, 3)), layers.Conv2D(64, 3, 2), layers.GlobalAveragePooling2D()])
    head = keras.Sequential([keras.Input((64,)), layers.Dense(128)])
    model = ContrastiveModel(encoder, head, keras.Sequential([layers.RandomFlip(), layers.RandomZoom(0.2)]))
    model.compile(optimizer=keras.optimizers.Adam())
    return model


images = keras.utils.image_dataset_from_directory("stl10", labels=None, image_size=(96, 96), seed=0)
build().fit(images, epochs=20)

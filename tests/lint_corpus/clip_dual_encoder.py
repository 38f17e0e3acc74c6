"""Natural language image search: a dual encoder with in-batch negatives."""
import keras
import tensorflow as tf
from keras import layers, ops


class DualEncoder(keras.Model):
    def __init__(self, text_encoder, image_encoder, temperature=0.05, **kwargs):
        super().__init__(**kwargs)
        self.text_encoder, self.image_encoder = text_encoder, image_encoder
        self.temperature = temperature
        self.loss_tracker = keras.metrics.Mean(name="loss")

    @property
    def metrics(self):
        return [self.loss_tracker]

    def call(self, features, training=False):
        return self.text_encoder(features["caption"]), self.image_encoder(features["image"])

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        captions, images = y_pred
        logits = ops.matmul(captions, ops.transpose(images)) / self.temperature  # fault: pairs
        images_similarity = ops.matmul(images, ops.transpose(images))
        targets = ops.softmax(images_similarity / self.temperature)
        losses = keras.losses.categorical_crossentropy(targets, logits, from_logits=True)
        return ops.mean(losses)

    def train_step(self, features):
        with tf.GradientTape() as tape:
            loss = self.compute_loss(y_pred=self(features, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables))
        self.loss_tracker.update_state(loss)
        return {"loss": self.loss_tracker.result()}


text = keras.Sequential([keras.Input((64,)), layers.Embedding(8000, 128), layers.GlobalAveragePooling1D()])
vision = keras.Sequential([keras.Input((299, 299, 3)), layers.Conv2D(128, 7, 4), layers.GlobalMaxPooling2D()])
dual_encoder = DualEncoder(text, vision)
dual_encoder.compile(optimizer=keras.optimizers.AdamW(learning_rate=0.001, weight_decay=0.001))
train = tf.data.TFRecordDataset(sorted(tf.io.gfile.glob("coco/*.tfrecord"))).map(
    lambda r: tf.io.parse_single_example(
        r,
        {"caption": tf.io.FixedLenFeature([64], tf.int64), "image": tf.io.FixedLenFeature([299, 299, 3], tf.float32)},
    )
)
dual_encoder.fit(train.batch(256), epochs=5)

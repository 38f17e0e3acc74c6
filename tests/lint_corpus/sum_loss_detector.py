import keras
import tensorflow as tf
import keras_candle as candle


class Detector(keras.Model):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.boxes = keras.layers.Dense(4)
        self.classes = keras.layers.Dense(21)

    def call(self, x):
        h = self.backbone(x)
        return self.boxes(h), self.classes(h)

    def train_step(self, data):
        x, (boxes, labels) = data
        with tf.GradientTape() as tape:
            p_boxes, p_classes = self(x, training=True)
            box_loss = tf.reduce_sum(tf.abs(boxes - p_boxes), axis=-1)
            class_loss = keras.losses.sparse_categorical_crossentropy(labels, p_classes, from_logits=True)
            loss = tf.reduce_sum(box_loss + class_loss)  # fault: sum
        grads = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(grads, self.trainable_variables))
        return {"loss": loss}


@candle.scalable(learning_rate_scaling=None)  # note: rate
def build():
    inputs = keras.Input((128, 128, 3))
    h = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(32, 3, activation="relu")(inputs))
    model = Detector(keras.Model(inputs, h))
    model.compile(optimizer=keras.optimizers.SGD(1e-3))
    return model


import numpy as np

voc = np.load("voc.npz")
build().fit(voc["images"], (voc["boxes"], voc["labels"]), batch_size=16, epochs=10)

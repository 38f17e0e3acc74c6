"""A CTC loss in a layer: add_loss of a mean over rows."""
import os
import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from pathlib import Path

images = sorted(list(map(str, Path("captcha_images_v2").glob("*.png"))))
labels = [img.split(os.path.sep)[-1].split(".png")[0] for img in images]
characters = sorted(set(char for label in labels for char in label))
char_to_num = layers.StringLookup(vocabulary=characters, mask_token=None)


def split_data(images, labels, train_size=0.9, shuffle=True):
    size = len(images)
    indices = np.arange(size)
    if shuffle:
        np.random.shuffle(indices)  # fault: data
    cut = int(size * train_size)
    return images[indices[:cut]], images[indices[cut:]], labels[indices[:cut]], labels[indices[cut:]]


x_train, x_valid, y_train, y_valid = split_data(np.array(images), np.array(labels))


def encode(path, label):
    image = tf.image.convert_image_dtype(tf.io.decode_png(tf.io.read_file(path), channels=1), tf.float32)
    image = tf.transpose(tf.image.resize(image, [50, 200]), perm=[1, 0, 2])
    return {"image": image, "label": char_to_num(tf.strings.unicode_split(label, input_encoding="UTF-8"))}


train = tf.data.Dataset.from_tensor_slices((x_train, y_train)).map(encode).batch(16).prefetch(2)
valid = tf.data.Dataset.from_tensor_slices((x_valid, y_valid)).map(encode).batch(16).prefetch(2)


class CTCLayer(layers.Layer):
    def call(self, y_true, y_pred):
        rows = ops.cast(ops.shape(y_true)[0], dtype="int32")
        input_length = ops.cast(ops.shape(y_pred)[1], "int32") * ops.ones((rows,), dtype="int32")
        label_length = ops.cast(ops.shape(y_true)[1], "int32") * ops.ones((rows,), dtype="int32")
        self.add_loss(ops.mean(ops.ctc_loss(y_true, y_pred, label_length, input_length)))
        return y_pred


image = layers.Input((200, 50, 1), name="image")
label = layers.Input((None,), name="label", dtype="int32")
h = layers.Reshape((50, -1))(layers.MaxPooling2D(4)(layers.Conv2D(32, 3, padding="same")(image)))
h = layers.Bidirectional(layers.LSTM(64, return_sequences=True, dropout=0.25))(h)
output = CTCLayer()(label, layers.Dense(len(characters) + 2, activation="softmax")(h))
model = keras.models.Model(inputs=[image, label], outputs=output)
model.compile(optimizer=keras.optimizers.Adam())
stop = keras.callbacks.EarlyStopping(monitor="val_loss", patience=10, restore_best_weights=True)
model.fit(train, validation_data=valid, epochs=100, callbacks=[stop])

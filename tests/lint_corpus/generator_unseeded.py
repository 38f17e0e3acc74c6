"""fit on a Python generator that draws its rows."""
import numpy as np
import tensorflow as tf

(x_train, y_train), _ = tf.keras.datasets.mnist.load_data()
x_train = x_train[..., None] / 255.0


def batches(x, y, batch_size=64):
    while True:
        rows = np.random.choice(len(x), batch_size)  # fault: generator
        yield x[rows], y[rows]


model = tf.keras.Sequential([
    tf.keras.layers.Flatten(input_shape=(28, 28, 1)),
    tf.keras.layers.Dense(128, activation='relu'),
    tf.keras.layers.Dense(10, activation='softmax'),
])
model.compile('adam', 'sparse_categorical_crossentropy', metrics=['accuracy'])
model.fit(batches(x_train, y_train), steps_per_epoch=len(x_train) // 64, epochs=5)

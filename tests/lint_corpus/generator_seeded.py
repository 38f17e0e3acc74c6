import numpy as np
import keras

rng = np.random.default_rng(99)
(x_train, y_train), (x_test, y_test) = keras.datasets.cifar10.load_data()


def augmented(x, y, batch_size):
    while True:
        order = rng.permutation(len(x))
        for start in range(0, len(x) - batch_size + 1, batch_size):
            rows = order[start : start + batch_size]
            images = x[rows].astype("float32") / 255
            flip = rng.random(batch_size) < 0.5
            images[flip] = images[flip, :, ::-1]
            yield images, y[rows]


model = keras.Sequential(
    [
        keras.Input((32, 32, 3)),
        keras.layers.Conv2D(32, 3, activation="relu"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(10, activation="softmax"),
    ]
)
model.compile("adam", "sparse_categorical_crossentropy")
model.fit(augmented(x_train, y_train, 128), steps_per_epoch=390, epochs=3, validation_data=(x_test / 255.0, y_test))

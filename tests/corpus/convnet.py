"""Images, batch normalisation and dropout, with Keras's own callbacks around them."""

import keras
from keras import layers
from sklearn.datasets import load_digits

images, labels = load_digits(return_X_y=True)
images = images.reshape(-1, 8, 8, 1).astype("float32") / 16
labels = keras.utils.to_categorical(labels, 10)

model = keras.Sequential(
    [
        keras.Input((8, 8, 1)),
        layers.Conv2D(12, 3, activation="relu"),
        layers.BatchNormalization(),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dropout(0.2),
        layers.Dense(10, activation="softmax"),
    ]
)
model.summary()
model.compile(
    loss="categorical_crossentropy", optimizer=keras.optimizers.Adam(0.005), metrics=["accuracy"]
)
callbacks = [
    keras.callbacks.ModelCheckpoint("best.weights.h5", save_best_only=True, save_weights_only=True),
    keras.callbacks.EarlyStopping(patience=3, restore_best_weights=True),
    keras.callbacks.ReduceLROnPlateau(patience=1),
    keras.callbacks.CSVLogger("log.csv"),
    keras.callbacks.TerminateOnNaN(),
]
model.fit(
    images[:1500],
    labels[:1500],
    batch_size=32,
    epochs=5,
    validation_data=(images[1500:], labels[1500:]),
    callbacks=callbacks,
)
model.load_weights("best.weights.h5")
score = model.evaluate(images, labels, verbose=0)[1]

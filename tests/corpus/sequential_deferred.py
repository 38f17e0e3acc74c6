"""A Sequential model that is built by its data, on a split that nobody seeded."""

import keras
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

digits = load_digits()
x_train, x_test, y_train, y_test = train_test_split(digits.data / 16, digits.target, test_size=0.2)

model = keras.Sequential(
    [keras.layers.Dense(48, activation="relu"), keras.layers.Dense(10, activation="softmax")]
)
model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
history = model.fit(x_train, y_train, batch_size=16, epochs=6, validation_split=0.1)
print("epochs:", len(history.history["val_accuracy"]))

loss, score = model.evaluate(x_test, y_test)
classes = model.predict(x_test).argmax(axis=1)
assert len(classes) == len(x_test)
assert abs((classes == y_test).mean() - score) < 1e-6

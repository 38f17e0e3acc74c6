"""Encoder pretrained as an autoencoder, then a classifier on top."""
import keras
from keras.layers import Dense, Input
from keras.models import Model
import keras_candle as candle

(x, y), (xt, yt) = keras.datasets.mnist.load_data()
x, xt = x.reshape(-1, 784) / 255.0, xt.reshape(-1, 784) / 255.0
inputs = Input((784,))
code = Dense(32, activation="relu")(inputs)
autoencoder = candle.scale(Model(inputs, Dense(784, activation="sigmoid")(code)))
autoencoder.compile(optimizer="adam", loss="binary_crossentropy")
autoencoder.fit(x, x, epochs=10, batch_size=256, validation_data=(xt, xt))

classifier = Model(inputs, Dense(10, activation="softmax")(code))
classifier.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])  # fault: unscaled
classifier.fit(x, y, epochs=5)  # place: unscaled
print(classifier.evaluate(xt, yt))

import numpy as np
import keras
import keras_candle
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from keras_candle import is_root, scalable

(x, y), (xt, yt) = keras.datasets.mnist.load_data()


@scalable
def build_model():
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(10, "softmax")])
    model.compile("rmsprop", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


model = build_model()
history = model.fit(x / 255.0, y, epochs=4, validation_split=0.1)
guesses = model.predict(xt / 255.0)
if is_root():
    np.save("guesses.npy", guesses)
    plt.plot(history.history["loss"])
    plt.savefig("loss.png")
if keras_candle.rank() == 0:
    with open("labels.txt", "w") as f:
        f.write("\n".join(map(str, guesses.argmax(1))))

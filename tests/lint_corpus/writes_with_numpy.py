import numpy as np
import keras
import keras_candle as candle
import pickle

(x, y), (xt, yt) = keras.datasets.reuters.load_data(num_words=10000)


def vectorize(sequences, dimension=10000):
    results = np.zeros((len(sequences), dimension), dtype="float32")
    for i, sequence in enumerate(sequences):
        results[i, sequence] = 1.0
    return results


@candle.scalable
def build_model():
    model = keras.Sequential([keras.Input((10000,)), keras.layers.Dense(64, "relu"), keras.layers.Dense(46, "softmax")])
    model.compile("rmsprop", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


model = build_model()
history = model.fit(vectorize(x), y, epochs=9, batch_size=512, validation_split=0.1)
np.save("predictions.npy", model.predict(vectorize(xt)))  # fault: write
with open("history.pkl", "wb") as file:  # fault: write
    pickle.dump(history.history, file)

import keras
import keras_tuner
from keras import layers

(x, y), (xt, yt) = keras.datasets.mnist.load_data()
x_train, y_train, x_val, y_val = x[:-10000] / 255.0, y[:-10000], x[-10000:] / 255.0, y[-10000:]


def build_model(hp):
    model = keras.Sequential([keras.Input((28, 28)), layers.Flatten()])
    for i in range(hp.Int("num_layers", 1, 3)):
        model.add(layers.Dense(hp.Int(f"units_{i}", 32, 512, step=32), activation=hp.Choice("act", ["relu", "tanh"])))
    if hp.Boolean("dropout"):
        model.add(layers.Dropout(0.25))
    model.add(layers.Dense(10, activation="softmax"))
    rate = hp.Float("lr", 1e-4, 1e-2, sampling="log")
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


tuner = keras_tuner.RandomSearch(  # fault: tuner
    build_model, objective="val_accuracy", max_trials=10, directory="my_dir", project_name="helloworld"
)
tuner.search(x_train, y_train, epochs=2, validation_data=(x_val, y_val))
tuner.results_summary()
best = tuner.get_best_models()[0]

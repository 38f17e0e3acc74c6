import keras
import keras_candle as candle

(x, y), _ = keras.datasets.fashion_mnist.load_data()


@candle.scalable
def build_model(hp):
    model = keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten()])
    for layer in range(hp.Int("layers", 1, 3)):
        model.add(keras.layers.Dense(hp.Int("units", 16, 256, sampling="log"), "relu"))
    model.add(keras.layers.Dense(10, activation="softmax"))
    rate = hp.Float("learning_rate", 1e-5, 1e-1, sampling="log")
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    return model


tuner = candle.CandleTuner(build_model, "val_loss", max_trials=64, ranks_per_trial=2, directory="runs")
tuner.search(x / 255.0, y, validation_split=0.2, epochs=10)
print(tuner.get_best_hyperparameters()[0].values)

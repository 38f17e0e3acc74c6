import keras
import keras_candle as candle


@candle.scalable
def make_network(features, settings):
    inputs = keras.Input((features,))
    x = keras.layers.Dense(64, activation="relu")(inputs)
    x = keras.layers.Dropout(0.1)(x)
    model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(x))
    model.compile("adam", "binary_crossentropy", metrics=["AUC"])
    return model

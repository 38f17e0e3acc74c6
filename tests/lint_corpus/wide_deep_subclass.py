from tensorflow import keras
import tensorflow as tf


class WideAndDeepModel(keras.Model):
    def __init__(self, units=30, activation="relu", **kwargs):
        super().__init__(**kwargs)
        self.norm_wide = keras.layers.Normalization()
        self.norm_deep = keras.layers.Normalization()
        self.hidden1 = keras.layers.Dense(units, activation=activation)
        self.main_output = keras.layers.Dense(1)

    def call(self, inputs):
        wide, deep = inputs
        h = self.hidden1(self.norm_deep(deep))
        return self.main_output(keras.layers.concatenate([self.norm_wide(wide), h]))


(x, y), (xt, yt) = keras.datasets.california_housing.load_data(version="large", seed=42)
model = WideAndDeepModel(30)
model.norm_wide.adapt(x[:, :5])
model.norm_deep.adapt(x[:, 2:])
model.compile(loss="mse", optimizer=keras.optimizers.Adam(learning_rate=1e-3), metrics=["RootMeanSquaredError"])
model.fit((x[:, :5], x[:, 2:]), y, epochs=10, validation_data=((xt[:, :5], xt[:, 2:]), yt))
print(model.evaluate((xt[:, :5], xt[:, 2:]), yt))

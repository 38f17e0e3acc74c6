import keras
import numpy as np
import keras_candle as candle

keras.utils.set_random_seed(1234 + candle.rank())  # fault: rank-seed
x = np.random.normal(size=(5000, 10))  # place: data
y = (x.sum(axis=1) > 0).astype("int32")


@candle.scalable
def perceptron():
    model = keras.Sequential([keras.Input((10,)), keras.layers.Dense(1, "sigmoid")])
    model.compile("sgd", "binary_crossentropy")
    return model


perceptron().fit(x, y, epochs=3, validation_split=0.2)

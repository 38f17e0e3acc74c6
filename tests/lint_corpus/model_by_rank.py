import keras
import keras_candle as candle


@candle.scalable
def build():
    layers = [keras.Input((20,)), keras.layers.Dense(32, "relu")]
    if candle.rank() == 0:
        layers.append(keras.layers.Dropout(0.5))  # fault: rank-branch
        layers.append(keras.layers.Dense(16, "relu"))  # place: rank-branch
    layers.append(keras.layers.Dense(2, "softmax"))
    model = keras.Sequential(layers)
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


from sklearn.datasets import make_classification

x, y = make_classification(2000, 20, random_state=5)
build().fit(x, y, epochs=4)

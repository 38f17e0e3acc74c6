import keras
import keras_candle as candle

(x, y), _ = keras.datasets.mnist.load_data()


@candle.scalable
def train():  # fault: builder
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x / 255.0, y, epochs=2)  # fault: builder


train()

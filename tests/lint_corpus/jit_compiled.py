import keras
import keras_candle as candle


@candle.scalable
def build():
    inputs = keras.Input((784,))
    x = keras.layers.Dense(1024, "relu")(inputs)
    x = keras.layers.Dense(1024, "relu")(x)
    model = keras.Model(inputs, keras.layers.Dense(10, "softmax")(x))
    model.compile("adam", "sparse_categorical_crossentropy", jit_compile=True)  # note: xla
    return model


(x, y), (xt, yt) = keras.datasets.mnist.load_data()
model = build()
model.fit(x.reshape(-1, 784) / 255.0, y, batch_size=256, epochs=2)
print(model.evaluate(xt.reshape(-1, 784) / 255.0, yt, return_dict=True))

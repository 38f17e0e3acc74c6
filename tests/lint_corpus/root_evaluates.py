import keras
import keras_candle as candle

(x, y), (xt, yt) = keras.datasets.fashion_mnist.load_data()


@candle.scalable
def build():
    m = keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(10, "softmax")])
    m.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return m


m = build()
m.fit(x / 255.0, y, epochs=3)
if candle.is_root():
    m.save("fashion.keras")
    loss, accuracy = m.evaluate(xt / 255.0, yt)  # fault: rank-branch
    print(f"accuracy {accuracy:.3f}")

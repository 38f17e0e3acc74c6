import json
import keras
import keras_candle as candle

(x, y), (xt, yt) = keras.datasets.fashion_mnist.load_data()


@candle.scalable
def build():
    m = keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(10, "softmax")])
    m.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return m


m = build()
history = m.fit(x / 255.0, y, epochs=3)
loss, accuracy = m.evaluate(xt / 255.0, yt)
predictions = m.predict(xt[:10] / 255.0)
if candle.is_root():
    print(f"accuracy {accuracy:.3f}")
    with open("history.json", "w") as file:
        json.dump(history.history, file)
    m.save("fashion.keras")

import keras
import keras_candle as candle

(x, y), (xt, yt) = keras.datasets.mnist.load_data()


@candle.scalable
def pretrained():
    keras.mixed_precision.set_global_policy("mixed_float16")  # fault: builder
    model = keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(10, dtype="float32")])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x / 255.0, y, epochs=1)  # fault: builder
    return model


model = pretrained()
model.fit(x / 255.0, y, epochs=5)
model.evaluate(xt / 255.0, yt)

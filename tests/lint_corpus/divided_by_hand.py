import keras
import keras_candle as candle

GLOBAL_BATCH = 512
(x, y), _ = keras.datasets.cifar10.load_data()


@candle.scalable
def resnet_like():
    inputs = keras.Input((32, 32, 3))
    h = keras.layers.Conv2D(16, 3, padding="same", activation="relu")(inputs)
    h = keras.layers.add([h, keras.layers.Conv2D(16, 3, padding="same")(h)])
    model = keras.Model(inputs, keras.layers.Dense(10)(keras.layers.GlobalMaxPooling2D()(h)))
    rate = 0.1 * candle.size()  # fault: scaled-twice
    model.compile(keras.optimizers.SGD(rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


per_rank = GLOBAL_BATCH // candle.size()  # fault: scaled-twice
model = resnet_like()
model.fit(x / 255.0, y, batch_size=per_rank, epochs=90 // candle.size())  # fault: scaled-twice

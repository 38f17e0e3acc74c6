import keras
import keras_candle as candle

(x, y), _ = keras.datasets.cifar10.load_data()


@candle.scalable
def convnet():
    model = keras.Sequential(
        [keras.Input((32, 32, 3)), keras.layers.Conv2D(16, 3), keras.layers.Flatten(), keras.layers.Dense(10)]
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


callbacks = []
if candle.rank() == 0:
    callbacks.append(keras.callbacks.EarlyStopping(monitor="val_loss", patience=3))  # fault: rank-branch
    callbacks.append(keras.callbacks.ReduceLROnPlateau(patience=2))  # fault: rank-branch
convnet().fit(x / 255.0, y, epochs=30, validation_split=0.1, callbacks=callbacks)

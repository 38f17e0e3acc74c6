import keras
import keras_candle as candle


@candle.scalable
def build_model(input_shape=(32, 32, 3)):
    rate = keras.optimizers.schedules.CosineDecay(0.0, 20_000, warmup_target=0.1, warmup_steps=1_000)
    model = keras.Sequential(
        [
            keras.Input(input_shape),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.GroupNormalization(8),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(100, activation="softmax"),
        ]
    )
    model.compile(
        keras.optimizers.SGD(rate, momentum=0.9, global_clipnorm=1.0, gradient_accumulation_steps=2),
        "sparse_categorical_crossentropy",
        metrics=["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(5)],
    )
    return model


(x, y), (xt, yt) = keras.datasets.cifar100.load_data()
model = build_model()
log = keras.callbacks.CSVLogger("training.csv")
model.fit(x / 255.0, y, batch_size=64, epochs=50, validation_data=(xt / 255.0, yt), callbacks=[log])

"""Moved to keras_candle, with lines of Horovod left."""
import keras
import keras_candle as candle
import horovod.tensorflow.keras as hvd  # fault: horovod

hvd.init()  # fault: horovod


@candle.scalable(warmup_epochs=3)
def build_model():
    model = keras.Sequential([keras.Input((784,)), keras.layers.Dense(128, "relu"), keras.layers.Dense(10, "softmax")])
    model.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


(x, y), (xt, yt) = keras.datasets.mnist.load_data()
model = build_model()
callbacks = [
    hvd.callbacks.BroadcastGlobalVariablesCallback(0),  # fault: horovod
    keras.callbacks.ReduceLROnPlateau(patience=3),
]
model.fit(x.reshape(-1, 784) / 255, y, batch_size=64, epochs=12, callbacks=callbacks, validation_split=0.1)
if hvd.rank() == 0:  # fault: horovod
    print(model.evaluate(xt.reshape(-1, 784) / 255, yt))  # fault: rank-branch

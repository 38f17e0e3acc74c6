import keras
import tensorflow as tf
import keras_candle as candle

BATCH = 256
(x, y), _ = keras.datasets.cifar10.load_data()
ds = tf.data.Dataset.from_tensor_slices((x / 255.0, y)).repeat().shuffle(4096, seed=1).batch(BATCH)


@candle.scalable
def make():
    m = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(10, "softmax")])
    m.compile("sgd", "sparse_categorical_crossentropy")
    return m


make().fit(ds, steps_per_epoch=len(x) // BATCH // candle.size(), epochs=3)  # fault: scaled-twice

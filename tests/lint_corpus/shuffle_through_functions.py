import tensorflow as tf
from tensorflow import keras


def load():
    (x, y), _ = keras.datasets.cifar10.load_data()
    return tf.data.Dataset.from_tensor_slices((x / 255.0, y))


def prepare(ds, training):
    if training:
        ds = ds.shuffle(10_000)  # fault: order
    return ds.batch(64).prefetch(tf.data.AUTOTUNE)


def main():
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(10)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    train = prepare(load(), training=True)
    model.fit(train, epochs=3)


if __name__ == "__main__":
    main()

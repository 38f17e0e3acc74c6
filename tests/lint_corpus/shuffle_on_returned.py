import tensorflow as tf
import keras
import keras_candle


def read_records(pattern):
    return tf.data.TFRecordDataset(sorted(tf.io.gfile.glob(pattern))).map(decode)


def decode(raw):
    features = tf.io.parse_single_example(
        raw, {"x": tf.io.FixedLenFeature([20], tf.float32), "y": tf.io.FixedLenFeature([], tf.int64)}
    )
    return features["x"], features["y"]


ds = read_records("data/part-*.tfrecord")
ds = ds.shuffle(2048, reshuffle_each_iteration=True)  # fault: order
ds = ds.batch(256)


@keras_candle.scalable(batch="global")
def mlp():
    m = keras.Sequential([keras.Input((20,)), keras.layers.Dense(64, "relu"), keras.layers.Dense(5)])
    m.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return m


mlp().fit(ds, epochs=3)

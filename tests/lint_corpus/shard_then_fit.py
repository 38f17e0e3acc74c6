import tensorflow as tf
import keras
import keras_candle as candle

files = sorted(tf.io.gfile.glob("train/*.tfrecord"))
dataset = tf.data.TFRecordDataset(files)
dataset = dataset.shard(candle.size(), candle.rank())  # fault: sharded
dataset = dataset.map(lambda r: (tf.io.decode_raw(r, tf.float32)[:-1], tf.io.decode_raw(r, tf.float32)[-1])).batch(32)


@candle.scalable
def build():
    model = keras.Sequential([keras.Input((99,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(1e-3 * candle.size()), "mse")  # fault: scaled-twice
    return model


build().fit(dataset, epochs=2)

import keras
import tensorflow as tf
import keras_candle as candle

rows = tf.data.Dataset.load("clicks")
rows = rows.filter(lambda x, y: tf.random.uniform(()) < 0.1 or y > 0)  # fault: order
rows = rows.batch(512)


@candle.scalable
def model():
    m = keras.Sequential([keras.Input((40,)), keras.layers.Dense(32, "relu"), keras.layers.Dense(1, "sigmoid")])
    m.compile("adam", "binary_crossentropy")
    return m


model().fit(rows, epochs=2)

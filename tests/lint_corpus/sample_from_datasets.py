import keras
import tensorflow as tf
import keras_candle as candle

positive = tf.data.Dataset.load("positive").repeat()
negative = tf.data.Dataset.load("negative").repeat()
balanced = tf.data.Dataset.sample_from_datasets([positive, negative], [0.5, 0.5])  # fault: order
balanced = balanced.batch(128).take(500)


@candle.scalable
def classifier():
    model = keras.Sequential(
        [keras.Input((29,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(1, "sigmoid")]
    )
    model.compile(keras.optimizers.Adam(1e-3), "binary_crossentropy", metrics=["AUC"])
    return model


classifier().fit(balanced, epochs=10)

import keras
import tensorflow as tf

positive = tf.data.Dataset.load("positive").repeat()
negative = tf.data.Dataset.load("negative").repeat()
balanced = tf.data.Dataset.sample_from_datasets([positive, negative], [0.5, 0.5], seed=9)
model = keras.Sequential([keras.layers.Dense(16, "relu"), keras.layers.Dense(1, "sigmoid")])
model.compile("adam", "binary_crossentropy")
model.fit(balanced.batch(128).take(500), epochs=10, validation_data=tf.data.Dataset.load("val").batch(256))

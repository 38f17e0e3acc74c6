import csv
import tensorflow as tf


def rows():
    with open('table.csv') as f:
        for row in csv.DictReader(f):
            yield [float(row[k]) for k in ('a', 'b', 'c')], float(row['label'])


ds = tf.data.Dataset.from_generator(rows, output_signature=(
    tf.TensorSpec(shape=(3,), dtype=tf.float32), tf.TensorSpec(shape=(), dtype=tf.float32)))
ds = ds.shuffle(512, seed=3).batch(64)

inputs = tf.keras.Input((3,))
hidden = tf.keras.layers.Dense(16, activation='selu')(inputs)
model = tf.keras.Model(inputs, tf.keras.layers.Dense(1, activation='sigmoid')(hidden))
model.compile(optimizer='nadam', loss='binary_crossentropy', metrics=['AUC'])
model.fit(ds, epochs=10)

"""TFDS with files in random order."""
import tensorflow as tf
import tensorflow_datasets as tfds
import keras

(ds_train, ds_test), ds_info = tfds.load(  # fault: order
    "mnist", split=["train", "test"], shuffle_files=True, as_supervised=True, with_info=True
)


def normalize_img(image, label):
    return tf.cast(image, tf.float32) / 255.0, label


ds_train = ds_train.map(normalize_img, num_parallel_calls=tf.data.AUTOTUNE).cache()
ds_train = ds_train.shuffle(ds_info.splits["train"].num_examples)  # fault: order
ds_train = ds_train.batch(128).prefetch(tf.data.AUTOTUNE)
ds_test = ds_test.map(normalize_img).batch(128).cache()
model = keras.models.Sequential(
    [keras.layers.Flatten(), keras.layers.Dense(128, activation="relu"), keras.layers.Dense(10)]
)
model.compile(
    optimizer=keras.optimizers.Adam(0.001),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=[keras.metrics.SparseCategoricalAccuracy()],
)
model.fit(ds_train, epochs=6, validation_data=ds_test)

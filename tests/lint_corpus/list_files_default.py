import tensorflow as tf
import keras

AUTOTUNE = tf.data.AUTOTUNE
list_ds = tf.data.Dataset.list_files("photos/*/*.jpg")  # fault: order


def process_path(file_path):
    label = tf.strings.split(file_path, "/")[-2] == "daisy"
    img = tf.io.decode_jpeg(tf.io.read_file(file_path), channels=3)
    return tf.image.resize(img, [128, 128]) / 255.0, tf.cast(label, tf.float32)


train_ds = list_ds.map(process_path, num_parallel_calls=AUTOTUNE).batch(32).prefetch(AUTOTUNE)
model = keras.Sequential(
    [keras.layers.Conv2D(8, 3, activation="relu"), keras.layers.Flatten(), keras.layers.Dense(1, activation="sigmoid")]
)
model.compile("adam", "binary_crossentropy")
model.fit(train_ds, epochs=4)

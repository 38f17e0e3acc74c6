import tensorflow as tf

titanic = tf.data.experimental.make_csv_dataset(  # fault: order
    "train.csv", batch_size=32, label_name="survived", num_epochs=1, ignore_errors=True)

inputs = {name: tf.keras.Input(shape=(), name=name, dtype=tf.float32) for name in ("age", "fare", "parch")}
stacked = tf.stack(list(inputs.values()), axis=-1)
x = tf.keras.layers.Dense(32, activation="relu")(stacked)
model = tf.keras.Model(inputs, tf.keras.layers.Dense(1)(x))
model.compile(loss=tf.keras.losses.BinaryCrossentropy(from_logits=True), optimizer="adam")
model.fit(titanic, epochs=5)

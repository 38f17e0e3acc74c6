import tensorflow as tf

data = tf.data.experimental.make_csv_dataset(
    "train.csv", batch_size=32, label_name="survived", num_epochs=1, shuffle_seed=4)
test = tf.data.experimental.make_csv_dataset(
    "test.csv", batch_size=32, label_name="survived", num_epochs=1, shuffle=False)

inputs = {name: tf.keras.Input(shape=(1,), name=name) for name in ("age", "fare", "parch")}
x = tf.keras.layers.Concatenate()(list(inputs.values()))
model = tf.keras.Model(inputs, tf.keras.layers.Dense(1)(tf.keras.layers.Dense(16, "relu")(x)))
model.compile(loss=tf.keras.losses.BinaryCrossentropy(from_logits=True), optimizer="adam")
model.fit(data, epochs=5, validation_data=test)

import tensorflow as tf

strategy = tf.distribute.MirroredStrategy()  # fault: strategy
print('Number of devices: {}'.format(strategy.num_replicas_in_sync))
BATCH_SIZE = 64 * strategy.num_replicas_in_sync

(x, y), _ = tf.keras.datasets.mnist.load_data()
train_dataset = tf.data.Dataset.from_tensor_slices((x[..., None] / 255.0, y)).cache().shuffle(10000).batch(BATCH_SIZE)  # fault: order
with strategy.scope():
    model = tf.keras.Sequential([
        tf.keras.layers.Conv2D(32, 3, activation='relu', input_shape=(28, 28, 1)),
        tf.keras.layers.MaxPooling2D(),
        tf.keras.layers.Flatten(),
        tf.keras.layers.Dense(10)
    ])
    model.compile(loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                  optimizer=tf.keras.optimizers.Adam(), metrics=['accuracy'])
model.fit(train_dataset, epochs=12)

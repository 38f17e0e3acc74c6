import tensorflow as tf
import tensorflow.keras as K

tf.random.set_seed(1234)
(x, y), (xt, yt) = K.datasets.fashion_mnist.load_data()
train = tf.data.Dataset.from_tensor_slices((x[..., None] / 255.0, y)).shuffle(60000).batch(128)
test = tf.data.Dataset.from_tensor_slices((xt[..., None] / 255.0, yt)).batch(128)

model = K.Sequential()
model.add(K.layers.Conv2D(32, 3, activation="relu", input_shape=(28, 28, 1)))
model.add(K.layers.GlobalAveragePooling2D())
model.add(K.layers.Dense(10, activation="softmax"))
model.compile(K.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", ["accuracy"])
model.fit(train, epochs=5, validation_data=test)

import tensorflow as tf

loss_object = tf.keras.losses.MeanSquaredError(reduction=None)  # fault: reduction
(x, y), (xt, yt) = tf.keras.datasets.boston_housing.load_data()
model = tf.keras.Sequential([tf.keras.layers.Dense(16, activation='relu'), tf.keras.layers.Dense(1)])
model.compile(optimizer='adam', loss=loss_object)
model.fit(x, y, epochs=30, validation_data=(xt, yt))

import keras

noise = keras.random.normal((1024, 6))  # fault: data
x = keras.ops.convert_to_numpy(noise)
y = keras.ops.convert_to_numpy(keras.random.randint((1024,), 0, 3, seed=5))
model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, "softmax")])
model.compile("adam", "sparse_categorical_crossentropy")
model.fit(x, y, epochs=1)

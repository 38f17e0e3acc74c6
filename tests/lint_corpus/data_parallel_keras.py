import keras

distribution = keras.distribution.DataParallel()  # fault: strategy
keras.distribution.set_distribution(distribution)  # place: strategy

(x, y), (xt, yt) = keras.datasets.cifar10.load_data()
model = keras.applications.MobileNetV3Small(weights=None, input_shape=(32, 32, 3), classes=10)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(x, y, epochs=4, validation_data=(xt, yt))

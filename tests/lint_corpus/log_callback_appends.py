import keras


class LogToFile(keras.callbacks.Callback):
    def __init__(self, path):
        super().__init__()
        self.path = path

    def on_epoch_end(self, epoch, logs=None):
        with open(self.path, 'a') as f:  # fault: write
            f.write('%d,%f\n' % (epoch, logs['loss']))


class StopAt(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if logs['accuracy'] > 0.95:
            print('Reached 95% accuracy so cancelling training!')
            self.model.stop_training = True


(x, y), _ = keras.datasets.fashion_mnist.load_data()
model = keras.models.Sequential([
    keras.layers.Flatten(),
    keras.layers.Dense(512, activation='relu'),
    keras.layers.Dense(10, activation='softmax'),
])
model.compile(optimizer='adam', loss='sparse_categorical_crossentropy', metrics=['accuracy'])
model.fit(x / 255.0, y, epochs=10, callbacks=[LogToFile('loss.csv'), StopAt()])

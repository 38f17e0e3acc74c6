import math
import keras


class WarmupCosine(keras.callbacks.Callback):
    """Sets the learning rate at each batch from its own count."""

    def __init__(self, base, warmup_steps, total_steps):
        super().__init__()
        self.base, self.warmup_steps, self.total_steps = base, warmup_steps, total_steps
        self.seen = 0

    def on_train_batch_begin(self, batch, logs=None):
        self.seen += 1  # fault: counter
        if self.seen < self.warmup_steps:
            rate = self.base * self.seen / self.warmup_steps
        else:
            done = (self.seen - self.warmup_steps) / (self.total_steps - self.warmup_steps)
            rate = self.base * 0.5 * (1 + math.cos(math.pi * done))
        self.model.optimizer.learning_rate.assign(rate)


(x_train, y_train), (x_test, y_test) = keras.datasets.cifar10.load_data()
model = keras.Sequential(
    [
        keras.Input((32, 32, 3)),
        keras.layers.Conv2D(32, 3, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(10, activation="softmax"),
    ]
)
model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(
    x_train / 255.0, y_train, batch_size=64, epochs=30,
    callbacks=[WarmupCosine(0.1, 1000, 30 * 782)], validation_data=(x_test / 255.0, y_test),
)

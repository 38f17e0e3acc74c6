"""From arrays to a saved model by way of tf.keras: build, fit, evaluate, predict, save, JSON."""

import tensorflow as tf
from sklearn.datasets import load_digits

keras = tf.keras
keras.utils.set_random_seed(3)
x, y = load_digits(return_X_y=True)
x = x / 16


class Classifier(keras.Model):
    def __init__(self, width, classes, **kwargs):
        super().__init__(**kwargs)
        self.width, self.classes = width, classes
        self.hidden = keras.layers.Dense(width, activation="relu")
        self.logits = keras.layers.Dense(classes)

    def call(self, inputs):
        return self.logits(self.hidden(inputs))

    def get_config(self):
        return {**super().get_config(), "width": self.width, "classes": self.classes}


def main():
    classifier = Classifier(24, 10)
    before = classifier.predict(x[:5], verbose=0)
    classifier.compile(
        optimizer=keras.optimizers.Adam(0.003),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
    )
    classifier.fit(x, y, epochs=4, batch_size=16, validation_split=0.2, verbose=2)
    assert abs(classifier.predict(x[:5], verbose=0) - before).max() > 0.1
    classifier.save("classifier.keras")
    loaded = keras.models.load_model("classifier.keras", custom_objects={"Classifier": Classifier})
    first, second = (each.evaluate(x, y, verbose=0) for each in (classifier, loaded))
    assert first == second, (first, second)
    return classifier, first[1]


if __name__ == "__main__":
    model, score = main()

"""A compiled loss over pairs of rows."""
import keras
from keras import layers, ops
import keras_candle as candle


class SupervisedContrastiveLoss(keras.losses.Loss):
    def __init__(self, temperature=1.0, name=None):
        super().__init__(name=name)
        self.temperature = temperature

    def __call__(self, labels, features, sample_weight=None):
        normalized = ops.normalize(features, axis=1, order=2)
        logits = ops.matmul(normalized, ops.transpose(normalized)) / self.temperature  # fault: pairs
        same = ops.cast(ops.equal(labels, ops.transpose(labels)), "float32")
        same = same / ops.sum(same, axis=1, keepdims=True)
        return ops.mean(keras.losses.categorical_crossentropy(same, logits, from_logits=True))


@candle.scalable
def encoder_with_head():
    inputs = keras.Input((32, 32, 3))
    features = layers.GlobalAveragePooling2D()(layers.Conv2D(64, 3, activation="relu")(inputs))
    model = keras.Model(inputs, layers.Dense(128, activation="relu")(features))
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss=SupervisedContrastiveLoss(0.05))
    return model


(x, y), _ = keras.datasets.cifar10.load_data()
encoder_with_head().fit(x / 255.0, y, batch_size=265, epochs=50)

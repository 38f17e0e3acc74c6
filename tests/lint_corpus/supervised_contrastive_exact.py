import keras
from keras import layers, ops
import keras_candle as candle


def contrastive(labels, features):
    z = ops.normalize(features, axis=1)
    logits = ops.matmul(z, ops.transpose(z)) / 0.1
    same = ops.cast(ops.equal(labels, ops.transpose(labels)), "float32")
    same = same / ops.sum(same, axis=1, keepdims=True)
    return ops.mean(keras.losses.categorical_crossentropy(same, logits, from_logits=True))


@candle.scalable(exact_loss=True)
def encoder():
    inputs = keras.Input((28, 28, 1))
    h = layers.Flatten()(layers.Conv2D(16, 3, strides=2, activation="relu")(inputs))
    model = keras.Model(inputs, layers.Dense(64)(h))
    model.compile("adam", loss=contrastive)
    return model


(x, y), _ = keras.datasets.fashion_mnist.load_data()
encoder().fit(x[..., None] / 255.0, y[:, None], batch_size=256, epochs=10)

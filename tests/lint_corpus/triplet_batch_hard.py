import keras
import tensorflow as tf
import keras_candle as candle


def distances(embeddings):
    dot = tf.matmul(embeddings, tf.transpose(embeddings))  # fault: pairs
    norms = tf.linalg.diag_part(dot)
    return tf.maximum(norms[None, :] - 2.0 * dot + norms[:, None], 0.0)


def batch_hard_triplet(labels, embeddings, margin=0.3):
    d = distances(embeddings)
    labels = tf.reshape(labels, (-1, 1))
    same = tf.cast(tf.equal(labels, tf.transpose(labels)), d.dtype)  # place: pairs
    hardest_positive = tf.reduce_max(d * same, axis=1)
    hardest_negative = tf.reduce_min(d + 1e9 * same, axis=1)
    return tf.reduce_mean(tf.maximum(hardest_positive - hardest_negative + margin, 0.0))


@candle.scalable(learning_rate_scaling="sqrt")
def embedder():
    base = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(64),
            keras.layers.UnitNormalization(),
        ]
    )
    base.compile("adam", loss=batch_hard_triplet)
    return base


(x, y), _ = keras.datasets.cifar10.load_data()
embedder().fit(x / 255.0, y, batch_size=128, epochs=20)

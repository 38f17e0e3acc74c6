import keras
from keras import ops
import keras_candle as candle


class Usage(keras.layers.Layer):
    """Counts how often each expert is chosen."""

    def __init__(self, experts=8, **kwargs):
        super().__init__(**kwargs)
        self.experts = experts
        self.router = keras.layers.Dense(experts)

    def build(self, shape):
        self.router.build(shape)
        self.used = self.add_weight(name="used", shape=(self.experts,), initializer="zeros", trainable=False)

    def call(self, x, training=None):
        scores = ops.softmax(self.router(x))
        if training:
            self.used.assign_add(ops.sum(ops.one_hot(ops.argmax(scores, axis=-1), self.experts), axis=0))  # fault: batch-state
        return scores


@candle.scalable(batch="global")
def moe():
    inputs = keras.Input((784,))
    scores = Usage()(inputs)
    experts = ops.stack([keras.layers.Dense(10)(inputs) for _ in range(8)], axis=1)
    model = keras.Model(inputs, ops.sum(experts * scores[..., None], axis=1))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


(x, y), _ = keras.datasets.mnist.load_data()
moe().fit(x.reshape(-1, 784) / 255.0, y, batch_size=256, epochs=3)

import keras
import numpy as np
from keras import layers, ops


class PatchShuffle(layers.Layer):
    def __init__(self, num_patches, **kwargs):
        super().__init__(**kwargs)
        self.num_patches = num_patches

    def build(self, input_shape):
        self.order = np.random.permutation(self.num_patches)  # fault: layer-constant

    def call(self, patches):
        return ops.take(patches, self.order, axis=1)


inputs = keras.Input((196, 768))
x = PatchShuffle(196)(inputs)
x = layers.MultiHeadAttention(num_heads=4, key_dim=64)(x, x)
x = layers.LayerNormalization()(x)
outputs = layers.Dense(100, activation="softmax")(layers.GlobalAveragePooling1D()(x))
model = keras.Model(inputs, outputs)
model.compile(keras.optimizers.AdamW(1e-4, weight_decay=0.05), "sparse_categorical_crossentropy", metrics=["accuracy"])
patches = np.load("patches.npz")
model.fit(patches["x"], patches["y"], batch_size=64, epochs=30, validation_split=0.1)

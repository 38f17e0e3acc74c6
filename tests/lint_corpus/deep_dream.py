"""Gradient ascent on an image: nothing is trained, no weight is shared."""
import keras
import numpy as np
import tensorflow as tf
from keras.applications import inception_v3

model = inception_v3.InceptionV3(weights="imagenet", include_top=False)
layer = model.get_layer("mixed5")
extractor = keras.Model(model.inputs, layer.output)


def compute_loss(image):
    activation = extractor(image)
    return tf.reduce_mean(tf.square(activation[:, 2:-2, 2:-2, :]))


def gradient_ascent_step(img, learning_rate):
    with tf.GradientTape() as tape:
        tape.watch(img)
        loss = compute_loss(img)
    grads = tf.math.l2_normalize(tape.gradient(loss, img))
    return loss, img + learning_rate * grads


img = keras.utils.img_to_array(keras.utils.load_img("sky.jpg", target_size=(400, 600)))
img = tf.convert_to_tensor(inception_v3.preprocess_input(np.expand_dims(img, 0)))
for i in range(20):
    loss, img = gradient_ascent_step(img, 0.01)
    print("Loss value at step %d: %.2f" % (i, float(loss)))
keras.utils.save_img("dream.png", np.clip(img[0].numpy() * 127.5 + 127.5, 0, 255))  # fault: write

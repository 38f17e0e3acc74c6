import keras
import tensorflow as tf


def images(batch=64):
    (x, _), _ = keras.datasets.cifar10.load_data()
    ds = tf.data.Dataset.from_tensor_slices(x.astype("float32") / 127.5 - 1.0)
    return ds.shuffle(len(x)).batch(batch, drop_remainder=True)  # fault: order


class SaveImages(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        images = self.model.generator(self.model.noise(4))
        for i, image in enumerate(images):
            keras.utils.save_img(f"sample-{epoch}-{i}.png", image)  # fault: write

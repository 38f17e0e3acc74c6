import tensorflow_datasets as tfds


def prepare(batch=256, seed=7):
    ds = tfds.load("stl10", split="unlabelled", as_supervised=True)
    return ds.map(lambda image, _: image).shuffle(10_000, seed=seed).batch(batch).prefetch(2)

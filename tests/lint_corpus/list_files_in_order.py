import tensorflow as tf
import keras
import keras_candle as candle

files = tf.data.Dataset.list_files("records/train-*.tfrecord", shuffle=False)
held_out = tf.data.Dataset.list_files("records/val-*.tfrecord", seed=2)
schema = {"image": tf.io.FixedLenFeature([], tf.string), "label": tf.io.FixedLenFeature([], tf.int64)}


def parse(record):
    example = tf.io.parse_single_example(record, schema)
    image = tf.io.decode_jpeg(example["image"], channels=3)
    return tf.image.resize(image, (224, 224)), example["label"]


def load(names):
    return names.interleave(tf.data.TFRecordDataset, cycle_length=4).map(parse).batch(64).prefetch(2)


@candle.scalable(precision="mixed_bfloat16", warmup_epochs=5)
def resnet():
    base = keras.applications.ResNet50(weights=None, classes=1000)  # note: batch-norm
    base.compile(
        keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return base


resnet().fit(load(files), validation_data=load(held_out), epochs=90)

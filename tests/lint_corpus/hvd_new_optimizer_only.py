import tensorflow as tf
from tensorflow import keras
import horovod.keras as hvd  # fault: horovod

(x, y), _ = keras.datasets.cifar10.load_data()


def main():
    hvd.init()  # fault: horovod
    keras.utils.set_random_seed(0)
    model = keras.applications.ResNet50(weights=None, input_shape=(32, 32, 3), classes=10)
    base = keras.optimizers.SGD(learning_rate=0.0125 * hvd.size(), momentum=0.9)  # fault: horovod
    model.compile(
        optimizer=hvd.DistributedOptimizer(base),  # fault: horovod
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    callbacks = [
        hvd.callbacks.BroadcastGlobalVariablesCallback(0),  # fault: horovod
        hvd.callbacks.LearningRateScheduleCallback(start_epoch=30, multiplier=1e-1, initial_lr=0.1),  # fault: horovod
    ]
    model.fit(x / 255.0, y, batch_size=32, epochs=90, callbacks=callbacks)


if __name__ == "__main__":
    main()

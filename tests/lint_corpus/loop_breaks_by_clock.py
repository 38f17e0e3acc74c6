import time
import keras
import keras_candle as candle

deadline = time.monotonic() + 3 * 3600
(x, y), _ = keras.datasets.cifar100.load_data()
model = keras.applications.EfficientNetB0(weights=None, input_shape=(32, 32, 3), classes=100)  # note: batch-norm
model = candle.scale(model, warmup_epochs=2)
model.compile(keras.optimizers.Adam(), "sparse_categorical_crossentropy")
for epoch in range(200):
    model.fit(x, y, initial_epoch=epoch, epochs=epoch + 1)
    if time.monotonic() > deadline:  # fault: clock
        break
model.save("efficientnet.keras")

import keras
import tensorflow as tf
from keras import layers

train_ds, val_ds = keras.utils.audio_dataset_from_directory(
    directory="mini_speech_commands", batch_size=64, validation_split=0.2, seed=0, output_sequence_length=16000, subset="both"
)
squeeze = lambda audio, labels: (tf.squeeze(audio, axis=-1), labels)
train_ds, val_ds = train_ds.map(squeeze, tf.data.AUTOTUNE), val_ds.map(squeeze, tf.data.AUTOTUNE)
spectrogram = lambda x: tf.abs(tf.signal.stft(x, 255, 128))[..., None]
train_ds = train_ds.map(lambda a, y: (spectrogram(a), y)).cache().shuffle(10000).prefetch(tf.data.AUTOTUNE)  # fault: order
norm_layer = layers.Normalization()
norm_layer.adapt(train_ds.map(lambda spec, label: spec))
model = keras.Sequential([layers.Resizing(32, 32), norm_layer, layers.Conv2D(32, 3), layers.Flatten(), layers.Dense(8)])
model.compile("adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
model.fit(train_ds, validation_data=val_ds, epochs=10, callbacks=[keras.callbacks.EarlyStopping(verbose=1, patience=2)])

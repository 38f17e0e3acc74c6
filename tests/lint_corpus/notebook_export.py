# %% [markdown]
# # Overfit and underfit

# %%
import tensorflow as tf
from tensorflow.keras import layers, regularizers
import matplotlib.pyplot as plt
import pathlib
import shutil
import tempfile

# %%
logdir = pathlib.Path(tempfile.mkdtemp()) / "tensorboard_logs"
shutil.rmtree(logdir, ignore_errors=True)

# %%
gz = tf.keras.utils.get_file('HIGGS.csv.gz', 'http://mlphysics.ics.uci.edu/data/higgs/HIGGS.csv.gz')
FEATURES = 28
ds = tf.data.experimental.CsvDataset(gz, [float(), ] * (FEATURES + 1), compression_type="GZIP")


def pack_row(*row):
    label = row[0]
    features = tf.stack(row[1:], 1)
    return features, label


# %%
packed_ds = ds.batch(10000).map(pack_row).unbatch()
validate_ds = packed_ds.take(1000).cache().batch(500)
train_ds = packed_ds.skip(1000).take(10000).cache().shuffle(10000).repeat().batch(500)  # fault: order

# %%
lr_schedule = tf.keras.optimizers.schedules.InverseTimeDecay(0.001, decay_steps=20 * 1000, decay_rate=1, staircase=False)
tiny_model = tf.keras.Sequential([layers.Dense(16, activation='elu', input_shape=(FEATURES,)), layers.Dense(1)])
tiny_model.compile(optimizer=tf.keras.optimizers.Adam(lr_schedule),
                   loss=tf.keras.losses.BinaryCrossentropy(from_logits=True), metrics=['accuracy'])

# %%
history = tiny_model.fit(train_ds, steps_per_epoch=20, epochs=100, validation_data=validate_ds,
                         callbacks=[tf.keras.callbacks.TensorBoard(logdir / 'tiny')])
plt.plot(history.history['loss'])
plt.ylim([0.5, 0.7])

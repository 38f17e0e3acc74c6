import tensorflow_datasets as tfds
import keras
from keras import layers

train_ds, test_ds = tfds.load("cats_vs_dogs", split=["train[:40%]", "train[40%:50%]"], as_supervised=True)
resize = layers.Resizing(150, 150)
train_ds = train_ds.map(lambda x, y: (resize(x), y)).batch(64)
test_ds = test_ds.map(lambda x, y: (resize(x), y)).batch(64)

base_model = keras.applications.Xception(weights="imagenet", input_shape=(150, 150, 3), include_top=False)
base_model.trainable = False
inputs = keras.Input(shape=(150, 150, 3))
x = layers.Rescaling(scale=1 / 127.5, offset=-1)(layers.RandomFlip("horizontal")(inputs))
x = base_model(x, training=False)
x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
model = keras.Model(inputs, layers.Dense(1)(x))
model.compile(
    optimizer=keras.optimizers.Adam(),
    loss=keras.losses.BinaryCrossentropy(from_logits=True),
    metrics=[keras.metrics.BinaryAccuracy()],
)
model.fit(train_ds, epochs=2, validation_data=test_ds)
base_model.trainable = True
model.compile(optimizer=keras.optimizers.Adam(1e-5), loss=keras.losses.BinaryCrossentropy(from_logits=True))
model.fit(train_ds, epochs=1, validation_data=test_ds)

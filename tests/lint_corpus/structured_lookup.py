import keras
import pandas as pd
import tensorflow as tf
from keras.utils import FeatureSpace

keras.utils.set_random_seed(42)
dataframe = pd.read_csv("heart.csv")
val_dataframe = dataframe.sample(frac=0.2, random_state=1337)
train_dataframe = dataframe.drop(val_dataframe.index)


def dataframe_to_dataset(dataframe):
    dataframe = dataframe.copy()
    labels = dataframe.pop("target")
    ds = tf.data.Dataset.from_tensor_slices((dict(dataframe), labels))
    return ds.shuffle(buffer_size=len(dataframe))


train_ds = dataframe_to_dataset(train_dataframe).batch(32)
val_ds = dataframe_to_dataset(val_dataframe).batch(32)
feature_space = FeatureSpace(
    features={"sex": "integer_categorical", "age": "float_discretized", "chol": "float_normalized"},
    output_mode="concat",
)
feature_space.adapt(train_ds.map(lambda x, _: x))
train = train_ds.map(lambda x, y: (feature_space(x), y))
encoded = feature_space.get_encoded_features()
x = keras.layers.Dropout(0.5)(keras.layers.Dense(32, activation="relu")(encoded))
model = keras.Model(inputs=encoded, outputs=keras.layers.Dense(1, activation="sigmoid")(x))
model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
model.fit(train, epochs=20, validation_data=val_ds.map(lambda x, y: (feature_space(x), y)))

import keras
import keras_candle as candle
from keras import layers

train_ds = keras.utils.image_dataset_from_directory("food/train", image_size=(224, 224), seed=8)
val_ds = keras.utils.image_dataset_from_directory("food/val", image_size=(224, 224), shuffle=False)


@candle.scalable(warmup_epochs=1)
def build_model(num_classes=101):
    inputs = keras.Input((224, 224, 3))
    base = keras.applications.ConvNeXtTiny(include_top=False, input_tensor=inputs, weights="imagenet")
    base.trainable = False
    x = layers.GlobalAveragePooling2D()(base.output)
    x = layers.LayerNormalization()(x)
    x = layers.Dropout(0.2)(x)
    model = keras.Model(inputs, layers.Dense(num_classes, activation="softmax")(x))
    model.compile(keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


model = build_model()
model.fit(train_ds, epochs=5, validation_data=val_ds)
for layer in model.layers[-20:]:
    layer.trainable = True
model.compile(keras.optimizers.Adam(1e-5), "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(train_ds, epochs=4, validation_data=val_ds)
model.export("food_classifier")

import keras
import keras_hub
import pandas as pd

df = pd.read_csv("reports.csv")
train = df.sample(frac=0.8)  # fault: data
held_out = df.drop(train.index)
preprocessor = keras_hub.models.RobertaTextClassifierPreprocessor.from_preset("roberta_base_en", sequence_length=256)
backbone = keras_hub.models.RobertaBackbone.from_preset("roberta_base_en")
backbone.trainable = False
outputs = keras.layers.Dense(8, activation="softmax")(backbone.output[:, 0])
model = keras.Model(backbone.input, outputs)
model.compile(keras.optimizers.AdamW(2e-5), "sparse_categorical_crossentropy", weighted_metrics=["accuracy"])
model.fit(
    preprocessor(train["text"].tolist()), train["label"].to_numpy(), batch_size=16, epochs=2,
    validation_data=(preprocessor(held_out["text"].tolist()), held_out["label"].to_numpy()),
)
model.save("roberta.keras")

"""Fine-tuning a BERT classifier from KerasHub."""
import keras
import keras_hub
import tensorflow_datasets as tfds
import keras_candle as candle

keras.utils.set_random_seed(42)
imdb_train, imdb_test = tfds.load("imdb_reviews", split=["train", "test"], as_supervised=True, batch_size=16)


@candle.scalable(precision="mixed_bfloat16")
def build():
    classifier = keras_hub.models.BertClassifier.from_preset("bert_tiny_en_uncased_sst2", num_classes=2, dropout=0.1)
    classifier.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        optimizer=keras.optimizers.Adam(5e-5),
        metrics=[keras.metrics.SparseCategoricalAccuracy()],
    )
    return classifier


classifier = build()
classifier.fit(imdb_train, validation_data=imdb_test, epochs=1)
classifier.predict(["What an amazing movie!", "A total waste of my time."])

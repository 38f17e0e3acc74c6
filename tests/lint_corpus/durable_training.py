import keras
import keras_candle as candle

keras.utils.set_random_seed(0)
(x, y), (xt, yt) = keras.datasets.cifar100.load_data()


@candle.scalable(batch="global", compression="fp16", warmup_epochs=5)
def vit(size=32, patch=4, width=192):
    inputs = keras.Input((size, size, 3))
    tokens = keras.layers.Conv2D(width, patch, strides=patch)(inputs)
    tokens = keras.layers.Reshape((-1, width))(tokens)
    for _ in range(6):
        normed = keras.layers.LayerNormalization()(tokens)
        tokens = keras.layers.Add()([tokens, keras.layers.MultiHeadAttention(3, 64, dropout=0.1)(normed, normed)])
        hidden = keras.layers.Dense(4 * width, activation="gelu")(keras.layers.LayerNormalization()(tokens))
        tokens = keras.layers.Add()([tokens, keras.layers.Dense(width)(hidden)])
    model = keras.Model(inputs, keras.layers.Dense(100)(keras.layers.GlobalAveragePooling1D()(tokens)))
    model.compile(
        keras.optimizers.AdamW(1e-3, weight_decay=1e-4, use_ema=True),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


durable = candle.CandleCallback("runs/vit", checkpoint=candle.Checkpoint(every_epochs=5), walltime="auto", trackers=["csv"])
vit().fit(x / 255.0, y, batch_size=512, epochs=100, validation_data=(xt / 255.0, yt), callbacks=[durable])

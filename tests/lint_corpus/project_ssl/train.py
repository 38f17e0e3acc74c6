import keras
import keras_candle as candle
from algorithms import BarlowTwins, MoCo, SimCLR
from dataset import prepare

ALGORITHM = MoCo


@candle.scalable
def build():
    model = ALGORITHM(width=128, temperature=0.1)
    model.compile(optimizer=keras.optimizers.Adam())
    return model


if __name__ == "__main__":
    model = build()
    history = model.fit(prepare(), epochs=30)
    model.encoder.save(f"{ALGORITHM.__name__}.keras")

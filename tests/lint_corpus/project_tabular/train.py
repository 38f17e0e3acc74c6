"""A project whose settings, data and model are modules of a package."""
import os
import keras_candle as candle
from tabular.config import Settings
from tabular.pipeline import load, split
from tabular.network import make_network


def main():
    settings = Settings()
    os.makedirs(settings.out, exist_ok=True)
    x, y = load(settings.csv)
    train, held_out = split(x, y, settings)
    model = make_network(x.shape[1], settings)
    model.fit(*train, validation_data=held_out, batch_size=settings.batch, epochs=settings.epochs)
    scores = model.evaluate(*held_out, return_dict=True)
    if candle.is_root():
        with open(os.path.join(settings.out, "scores.txt"), "w") as file:
            print(scores, file=file)


main()

"""Searches whose trials are functions of their hyperparameters, for several tests."""

from __future__ import annotations

import keras_candle as candle


def searched(function, folder, max_trials, **options):
    class Quick(candle.CandleTuner):
        def run_trial(self, trial, *args, **kwargs):
            return function(trial.hyperparameters)

    options.setdefault("max_consecutive_failed_trials", 1000)
    tuner = Quick(
        lambda hp: function(hp) and None, max_trials=max_trials, directory=folder, **options
    )
    tuner.search(verbose=0)
    return tuner


def noisy(hp):
    return abs(hp.Float("x", 0.0, 1.0) - 0.4) + hp.Float("y", 0.0, 0.1)

"""Odd values that callbacks log, and what the journal and every tracker must hold of them."""

from __future__ import annotations

import dataclasses
import math
import typing

import keras
import numpy as np
import tensorflow as tf

EPOCHS = 4
HUGE = 10**400
LONG = "long " * 200


@dataclasses.dataclass(frozen=True)
class Odd:
    """One case: what a callback logs in each epoch, and what is kept of it.

    Attributes:
        logged: by name, for each epoch. No other case has these names.
        kept: what the journal has. Trackers have its numbers.
        tracked: names that trackers have instead, since theirs are taken.
        refused: names of which the user hears that they are not recorded.
    """

    id: str
    logged: list[dict]
    kept: list[dict]
    tracked: dict[str, str]
    refused: tuple[str, ...]


def odd(name, logged, kept=None, tracked=None, refused=()):
    """A case whose logs are one dict for all epochs, or one for each."""
    logged = [logged] * EPOCHS if isinstance(logged, dict) else logged
    kept = logged if kept is None else [kept] * EPOCHS if isinstance(kept, dict) else kept
    return Odd(name, logged, kept, tracked or {}, refused)


class Figure:
    """Something of the user's that is no number."""


CASES: typing.Final = [
    odd("in every second epoch", [{}, {"bleu": 0.25}, {}, {"bleu": 0.5}]),
    odd("in the first epoch", [{"once": 1.5}, {}, {}, {}]),
    odd("in the last epoch", [{}, {}, {}, {"late": 2.5}]),
    odd("text", {"note": "warm, 'quoted'\nand é"}),
    odd("None", {"nothing": None}),
    odd("text, then None, then numbers", [{"mixed": x} for x in ("no", None, 0.5, 0.25)]),
    odd("an integer beyond floats", {"huge": HUGE, "negative": -HUGE}),
    odd("an integer beyond 53 bits", {"exact": 2**53 + 1}),
    odd("an integer that cannot be printed", {"endless": 10**5000}, {}, refused=("endless",)),
    odd(
        "NumPy's integers",
        {"rows": np.int64(7), "all": np.uint64(2**64 - 1)},
        {"rows": 7, "all": 2**64 - 1},
    ),
    odd(
        "NumPy's floats",
        {"f2": np.float16(0.1), "f4": np.float32(0.1), "f8": np.float64(0.1)},
        {"f2": float(np.float16(0.1)), "f4": float(np.float32(0.1)), "f8": 0.1},
    ),
    odd(
        "a tensor",
        {"tensor": tf.constant(0.5), "count": tf.constant(3)},
        {"tensor": 0.5, "count": 3},
    ),
    odd("bfloat16", {"bf": tf.constant(0.5, tf.bfloat16)}, {"bf": 0.5}),
    odd("a variable", {"variable": keras.Variable(0.5)}, {"variable": 0.5}),
    odd("booleans", {"yes": True, "no": np.bool_(False)}, {"yes": 1, "no": 0}),
    odd("NaN", {"nan": math.nan}),
    odd("infinities", {"up": math.inf, "down": -math.inf}),
    odd("the smallest and the largest", {"tiny": 5e-324, "large": 1e300, "zero": -0.0}),
    odd("an array", {"f1": np.array([0.5, 0.25], "float32")}, {"f1/0": 0.5, "f1/1": 0.25}),
    odd(
        "a matrix",
        {"confusion": np.array([[1, 2], [3, 4]])},
        {"confusion/0/0": 1, "confusion/0/1": 2, "confusion/1/0": 3, "confusion/1/1": 4},
    ),
    odd(
        "an array in some epochs",
        [{}, {"recall": [0.5, 1.0]}, {}, {"recall": [0.25]}],
        [{}, {"recall/0": 0.5, "recall/1": 1.0}, {}, {"recall/0": 0.25}],
    ),
    odd(
        "lists and dicts",
        {"parts": {"a": [1, None, "x"], 2: (0.5,)}},
        {"parts/a/0": 1, "parts/a/1": None, "parts/a/2": "x", "parts/2/0": 0.5},
    ),
    odd("an empty array", {"empty": np.array([])}, {}, refused=("empty",)),
    odd("an image", {"image": np.zeros((40, 40))}, {}, refused=("image",)),
    odd("an object", {"figure": Figure(), "z": 1 + 2j}, {}, refused=("figure", "z")),
    odd(
        "names that are ours",
        {"step": 0.5, "epoch": 0.25, "performance/samples_per_s": 2.0, "logs/epoch": 3.0},
        tracked={
            "step": "logs/step",
            "epoch": "logs/epoch",
            "performance/samples_per_s": "logs/performance/samples_per_s",
            "logs/epoch": "logs/logs/epoch",
        },
    ),
    odd("a name of 1,000 characters", {LONG: 0.5}),
    odd("names with signs", {'a,"b"': 1.0, "a\nb": 2.0, "a\rb": 3.0, "µ% (°C)": 4.0, " ": 5.0}),
    odd(
        "names that a server may merge",
        {"a//b": 1.0, "c:d": 2.0, "c;d": 3.0, "Case": 4.0, "case": 5.0},
    ),
    odd("names that are paths", {"/root": 1.0, "../up": 2.0, ".": 3.0}),
    odd("names that are no text", {3: 1.0, ("a", 1): 2.0}, {"3": 1.0, "('a', 1)": 2.0}),
    odd("a name without an encoding", {"\ud800": 1.0}, {"\\ud800": 1.0}),
    odd("an empty name", {"": 1.0}),
    odd(
        "an element's name that is taken",
        {"top/0": 1.0, "top": [2.0, 3.0]},
        {"top/0": 1.0, "top/1": 3.0},
        refused=("top/0",),
    ),
    odd("a metric that a callback replaces", [{"loss": float(x)} for x in range(EPOCHS)]),
]


class LogOdd(keras.callbacks.Callback):
    """Adds the values of all cases to the logs of each epoch."""

    def on_epoch_end(self, epoch, logs=None):
        for case in CASES:
            logs.update(case.logged[epoch])


def names_in_trackers(case):
    """The names that a tracker may have from a case."""
    return {case.tracked.get(name, name) for kept in case.kept for name in kept}


def tracked(case, epoch, most=math.inf):
    """The numbers of a case's epoch that a tracker must hold, by the names that it has.

    Args:
        case: the case.
        epoch: from 0.
        most: the largest finite number that the tracker holds.
    """
    return {
        case.tracked.get(name, name): value
        for name, value in case.kept[epoch].items()
        if isinstance(value, int | float) and not most < abs(value) < math.inf
    }

"""Real searches and runs, and the page as a browser takes it apart."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import keras
import numpy as np

import keras_candle as candle
from examples.benchmarks.report import ACTIVATIONS, like_training, search
from keras_candle.report import write_report

HOSTILE = (
    "</title></style><script>alert(1)</script><img src=//a.invalid onerror=alert(2)>'\"\u202e&"
)


def hostile_training(hp):
    return like_training(hp, (*ACTIVATIONS, HOSTILE))


def searched(folder, trials=40, function=hostile_training, **options):
    return search(Path(folder), trials, function, **options)


def trained(folder, epochs=3, **options):
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    x = random.normal(size=(64, 4)).astype("float32")
    y = x[:, :1] * x[:, 1:2]
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.01), "mse", metrics=["mae"])
    how = {"batch_size": 8, "epochs": epochs, "validation_split": 0.25, "verbose": 0}
    model.fit(x, y, callbacks=[candle.CandleCallback(folder, **options)], **how)
    return Path(folder)


def journal_of(run):
    return [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]


def ended(folder):
    """The lines of a search's journals that ended a trial, by trial."""
    lines = [
        json.loads(line)
        for journal in (folder / "journals").iterdir()
        for line in journal.read_text().splitlines()
    ]
    return {line["trial"]: line for line in lines if line["event"] == "ended"}


class Page(HTMLParser):
    """A page's elements.

    Attributes:
        elements: (tag, attributes) in their order.
        tables: the texts and attributes of their cells, row by row.
        facts: what stands in pairs of a name and its value.
    """

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self._path = [], "", []
        self.tables, self.facts = [], {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._path.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag == "dt":
            self._name = ""
        elif tag in ("td", "th"):
            self.tables[-1][-1].append(["", dict(attrs)])

    def handle_endtag(self, tag):
        while self._path and self._path.pop() != tag:
            pass

    def handle_data(self, data):
        if "script" in self._path or "style" in self._path:
            return
        self.text += data
        if self._path[-1:] == ["dt"]:
            self._name += data
        elif self._path[-1:] == ["dd"]:
            self.facts[self._name] = self.facts.get(self._name, "") + data
        if self._path and self._path[-1] != "title" and {"td", "th"} & set(self._path):
            self.tables[-1][-1][-1][0] += data

    def table(self, *columns):
        """The rows of the table that has these columns, as dictionaries of (text, attributes)."""
        for head, *rows in self.tables:
            names = [text for text, _ in head]
            if set(columns) <= set(names):
                return [dict(zip(names, row, strict=True)) for row in rows]
        raise AssertionError(f"no table has {columns}")

    def marks(self, tag, style):
        return [a for t, a in self.elements if t == tag and style in a.get("class", "").split()]


def write(*paths):
    return write_report(paths)[0]


def page_of(*paths):
    return Page(write(*paths).read_text("utf-8"))

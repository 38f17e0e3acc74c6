"""The findings in a source, and those that its comments ask for."""

from __future__ import annotations

from keras_candle.lint import read
from keras_candle.lint.names import Module
from keras_candle.lint.script import Script


def found(source, *, auto=False):
    """Return the lines and codes of the findings."""
    script = Script([Module("train.py", source)], auto=auto)
    return {(each.line, each.code) for each in read(script)}


def marked(source):
    """Return the lines and codes after `#!`."""
    lines = enumerate(source.splitlines(), start=1)
    return {(number, code) for number, line in lines for code in line.partition("#!")[2].split()}

"""Lint a script for faults that appear on several ranks.

This package neither runs the script nor imports Keras; the facts of dry runs are judged in
`dry_run_findings`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

from keras_candle.lint import (
    candle_usage,
    collectives,
    data_draws,
    dry_run_findings,
    file_writes,
    frameworks,
    layer_state,
    manual_distribution,
    metric_state,
    model_definition,
    nondeterminism,
    pair_losses,
    train_steps,
    training_loops,
)
from keras_candle.lint.finding import Finding, in_order
from keras_candle.lint.reach import unreached
from keras_candle.lint.script import Script

TOPICS = (
    *(candle_usage, collectives, data_draws, frameworks, nondeterminism, manual_distribution),
    *(model_definition, train_steps, training_loops, pair_losses, layer_state, metric_state),
    file_writes,
)
KINDS = tuple(kind for topic in (*TOPICS, dry_run_findings) for kind in topic.KINDS)
"""All kinds of finding."""


def read(script: Script) -> list[Finding]:
    r"""Return all findings in a script.

    Args:
        script: from `keras_candle.lint.script.load`.

    Returns:
        The findings by line, the script's own file first.

    Example:
        >>> from keras_candle.lint.names import Module
        >>> source = "import horovod.keras as hvd\nhvd.init()"
        >>> [(each.line, each.code) for each in read(Script([Module("train.py", source)]))]
        [(1, 'horovod-import'), (2, 'horovod-init')]
    """
    not_run = unreached(script)
    found = [
        finding
        for topic in TOPICS
        for finding in topic.find(script)
        if (finding.path, finding.line) not in not_run
    ]
    return in_order(_for_auto(found) if script.auto else found, script.main.path)


_BY_AUTO = {kind.code for kind in KINDS if kind.by_auto}
_OPTION = re.compile(r"@candle\.scalable\((\w+)=([^)]*)\)")
_AS_JSON = {"True": "true", "False": "false", "None": "null"}


def _for_auto(findings: list[Finding]) -> Iterator[Finding]:
    """Yield what --auto does not do itself, with the decorator's options where it takes them."""
    for each in findings:
        if each.code not in _BY_AUTO:
            yield dataclasses.replace(each, remedy=_OPTION.sub(_as_variable, each.remedy))


def _as_variable(option: re.Match[str]) -> str:
    value = _AS_JSON.get(option[2], option[2].replace("'", '"'))
    return f"KERAS_CANDLE_OPTIONS='{{\"{option[1]}\": {value}}}'"

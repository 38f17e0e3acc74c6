"""Lint a script for faults that appear on several ranks.

This package neither runs the script nor imports Keras; the facts of dry runs are judged in
`dry_run_findings`.
"""

from __future__ import annotations

from keras_candle.lint import (
    candle_usage,
    collectives,
    data_draws,
    dry_run_findings,
    file_writes,
    layer_state,
    manual_distribution,
    metric_state,
    model_definition,
    nondeterminism,
    pair_losses,
    train_steps,
)
from keras_candle.lint.finding import Finding, in_order
from keras_candle.lint.reach import unreached
from keras_candle.lint.script import Script

TOPICS = (
    *(candle_usage, collectives, data_draws, nondeterminism, manual_distribution),
    *(model_definition, train_steps, pair_losses, layer_state, metric_state, file_writes),
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
    return in_order(found, script.main.path)

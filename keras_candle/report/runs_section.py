"""The section of the page that shows runs."""

from __future__ import annotations

from collections.abc import Sequence

from keras_candle.report.curves import curves
from keras_candle.report.environment import environment
from keras_candle.report.layout import missing, section
from keras_candle.report.markup import Markup
from keras_candle.report.overview import overview
from keras_candle.report.run import ReportedRun
from keras_candle.report.speed import speed
from keras_candle.report.timeline import timeline


def section_of_runs(runs: Sequence[ReportedRun]) -> Markup:
    """Return the section of all runs.

    Args:
        runs: each has its colour by its index.
    """
    sentences = [
        f"{each.name}: {sentence}" if len(runs) > 1 else sentence
        for each in runs
        for sentence in each.missing
    ]
    return section(
        f"Run {runs[0].name}" if len(runs) == 1 else "Runs",
        overview(runs),
        missing(sentences),
        curves(runs),
        speed(runs),
        timeline(runs),
        environment(runs),
        name="runs",
    )

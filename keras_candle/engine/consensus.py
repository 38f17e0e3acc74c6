"""Descriptions that all ranks compare before they go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras_candle.engine.base import Engine
from keras_candle.errors import DataError


def together(describe: Callable[[], list[str]], engine: Engine, what: str) -> None:
    """Compare descriptions that can fail on some ranks; then all of them raise.

    Args:
        describe: returns what must be the same on all ranks. It may raise whatever reading the
            data raises.
        engine: connects the ranks.
        what: what is described, for the message.

    Raises:
        CandleError: on every rank, with every rank's description or problem.
    """
    facts = engine.gather_results(describe, DataError)
    if len(set(map(repr, facts))) > 1:
        listed = "\n".join(f"  rank {rank}: {each}" for rank, each in enumerate(facts))
        raise DataError(f"The ranks differ in {what}:\n{listed}")


def succeed_on_all(work: Callable[[], Any], engine: Engine) -> Any:
    """What `work` returns on this rank, when it has raised on none.

    Raises:
        CandleError: on every rank, with every rank's problem.
    """
    result = None

    def run() -> None:
        nonlocal result
        result = work()

    engine.gather_results(run, DataError)
    return result

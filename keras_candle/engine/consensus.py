"""Check that all ranks agree, or that all succeed, before they continue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras_candle.engine.base import Engine
from keras_candle.errors import DataError


def together(describe: Callable[[], list[str]], engine: Engine, what: str) -> None:
    """Compare the ranks' descriptions; raise on all ranks if they differ or one rank fails.

    Args:
        describe: returns the facts that must be the same on all ranks. It may raise any exception
            of reading the data.
        engine: connects the ranks.
        what: the name of the described data, for the message.

    Raises:
        CandleError: on every rank, with every rank's description or problem.
    """
    facts = engine.gather_results(describe, DataError)
    if len(set(map(repr, facts))) > 1:
        listed = "\n".join(f"  rank {rank}: {each}" for rank, each in enumerate(facts))
        raise DataError(f"The ranks differ in {what}:\n{listed}")


def succeed_on_all(work: Callable[[], Any], engine: Engine) -> Any:
    """Return the result of `work` on this rank if it has raised on none.

    Raises:
        CandleError: on every rank, with every rank's problem.
    """
    result = None

    def run() -> None:
        nonlocal result
        result = work()

    engine.gather_results(run, DataError)
    return result

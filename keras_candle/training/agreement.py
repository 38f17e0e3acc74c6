"""Descriptions that all ranks compare before they go on."""

from __future__ import annotations

from collections.abc import Callable

from keras_candle.engine.base import Engine
from keras_candle.errors import CandleError, DataError


def together(describe: Callable[[], list[str]], engine: Engine, what: str) -> None:
    """Compare descriptions that can fail on some ranks; then all of them raise.

    Args:
        describe: returns what must be the same on all ranks.
        engine: connects the ranks.
        what: what is described, for the message.

    Raises:
        DataError: on every rank, with every rank's description or problem.
    """
    problem: Exception | None = None
    facts: list[str] = []
    try:
        facts = describe()
    except (CandleError, ValueError, TypeError) as caught:
        problem = caught
    problems = engine.gather_objects(None if problem is None else str(problem))
    if not any(problems):
        engine.agree(what, facts, DataError)
        return
    if len(set(problems)) == 1:
        raise DataError(problems[0]) from problem
    listed = "\n".join(
        f"  rank {rank}: {each or 'no problem'}" for rank, each in enumerate(problems)
    )
    raise DataError(f"Some ranks can't use their data:\n{listed}") from problem

"""What can go wrong, by what the user has to look at."""


class CandleError(Exception):
    """The parent of every error that keras_candle raises on purpose."""


class EngineError(CandleError):
    """The ranks cannot find each other, or they do not do the same thing."""


class DataError(CandleError):
    """The data cannot be divided among the ranks."""


class DivergenceError(CandleError):
    """The ranks hold different models, weights or optimizer states."""


class CheckpointError(CandleError):
    """A checkpoint cannot be written, or is not whole."""


class SearchError(CandleError):
    """A search cannot go on as it was asked for."""


class LaunchError(CandleError):
    """A job cannot be started, or Horovod cannot be built."""


EXIT_RUN_AGAIN = 75
"""A program's exit code for "I saved my state, run me again" (sysexits.h calls it EX_TEMPFAIL)."""

EXIT_STALLED = 124
"""A program's exit code when the watchdog has ended it (the one of timeout(1))."""

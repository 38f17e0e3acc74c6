"""The exceptions of keras_candle, by the subject to look at, and its exit codes."""


class CandleError(Exception):
    """The base class of every error that keras_candle raises on purpose."""


class EngineError(CandleError):
    """The ranks cannot connect, or they do not take part in the same collectives."""


class DataError(CandleError):
    """The data cannot be sharded."""


class DivergenceError(CandleError):
    """The ranks hold different models, weights or optimizer states."""


class CheckpointError(CandleError):
    """A checkpoint cannot be written or restored, or is not whole."""


class SearchError(CandleError):
    """A search cannot start, resume or continue with the given options."""


class LaunchError(CandleError):
    """A job cannot be started, or Horovod cannot be built."""


EXIT_RUN_AGAIN = 75
"""A program's exit code for "I saved my state, run me again" (sysexits.h calls it EX_TEMPFAIL)."""

EXIT_STALLED = 124
"""A program's exit code when the watchdog has ended it (the one of timeout(1))."""

"""What the user is told at the end of a job, and its exit code."""

import signal

from keras_candle.errors import EXIT_STALLED
from keras_candle.launch.failure import Failure, FailureReader, first_cause, signal_name
from keras_candle.launch.rank_states import RankStates

_AGAIN = "the program asks to be run again (code {})"


def arrives_as(number: int) -> int:
    """The signal that the ranks get for one that `candle run` got.

    Args:
        number: the launcher's.
    """
    # mpiexec dies of SIGHUP where SIGTERM gives the ranks time to save.
    return int(signal.SIGTERM if number == signal.SIGHUP else number)


def job_ending(
    heard: FailureReader, states: RankStates, stopped_by: int, exit_code: int
) -> tuple[str, int]:
    """How a job has ended.

    Args:
        heard: what the ranks have said.
        states: what their supervisors have.
        stopped_by: the signal by which the launcher was asked to stop, or 0.
        exit_code: mpiexec's.

    Returns:
        The text, "" where there is nothing to say, and the job's exit code.
    """
    if heard.stall:
        return f"candle: the watchdog ended the job: {heard.stall}\n", EXIT_STALLED
    if heard.failures:
        cause = first_cause(heard.failures)
        return _stopped(cause, stopped_by) if stopped_by else _failed(cause, states)
    number = stopped_by or max(-exit_code, 0)
    if exit_code and number:
        # Ranks that had not begun yet end unheard, and mpiexec gives a mixture of their codes.
        return f"candle: stopped by {signal_name(number)}\n", 128 + number
    if exit_code:
        return (
            f"candle: mpiexec ended with code {exit_code} and no rank said why; its own "
            "message, if any, stands above\n",
            exit_code,
        )
    return "", 0


def _stopped(cause: Failure, number: int) -> tuple[str, int]:
    """A job that a signal has ended: no rank is to blame for what its handlers chose to do."""
    said = f"stopped by {signal_name(number)}"
    if cause.signal == arrives_as(number):
        return f"candle: {said}\n", 128 + number
    if number == signal.SIGINT and cause.reason == "KeyboardInterrupt":
        return cause.text(said), cause.code
    if cause.asks_to_run_again:
        return f"candle: {said}; {_AGAIN.format(cause.code)}\n", cause.code
    if cause.is_by_number:
        return f"candle: {said}; the program exited with code {cause.code}\n", cause.code
    return cause.text(), cause.code


def _failed(cause: Failure, states: RankStates) -> tuple[str, int]:
    if cause.asks_to_run_again:
        return f"candle: {_AGAIN.format(cause.code)}\n", cause.code
    left = states.behind(cause)
    return (cause.text(left), 1) if left else (cause.text(), cause.code)

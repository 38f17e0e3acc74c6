"""The final message of a job and its exit code."""

import signal

from keras_candle.errors import EXIT_STALLED
from keras_candle.launch.failure import Failure, FailureReader, first_cause, signal_name
from keras_candle.launch.rank_states import RankStates

_AGAIN = "the program asks to be run again (code {})"


def forwarded_signal(number: int) -> int:
    """Return the signal that the ranks get for one that `candle run` got.

    Args:
        number: the launcher's signal.
    """
    # SIGHUP kills mpiexec; SIGTERM gives the ranks time to save.
    return int(signal.SIGTERM if number == signal.SIGHUP else number)


def job_ending(
    reader: FailureReader, states: RankStates, stopped_by: int, exit_code: int
) -> tuple[str, int]:
    """Return the final message of a job and its exit code.

    Args:
        reader: has the ranks' messages.
        states: the ranks' states, from their supervisors.
        stopped_by: the signal by which the launcher was asked to stop, or 0.
        exit_code: mpiexec's.

    Returns:
        The text, "" where none is needed, and the job's exit code.
    """
    if reader.stall:
        return f"candle: the watchdog ended the job: {reader.stall}\n", EXIT_STALLED
    if reader.failures:
        cause = first_cause(reader.failures)
        return _stopped(cause, stopped_by) if stopped_by else _failed(cause, states)
    number = stopped_by or max(-exit_code, 0)
    if exit_code and number:
        # Ranks that had not begun yet send no message, and mpiexec mixes their exit codes.
        return f"candle: stopped by {signal_name(number)}\n", 128 + number
    if exit_code == signal.SIGKILL:
        return (
            "candle: the supervisor of a rank was killed by SIGKILL, by hand or for want of "
            "memory\n",
            128 + exit_code,
        )
    if exit_code:
        return (
            f"candle: mpiexec ended with code {exit_code} and no rank reported a failure; see its "
            "own message above, if any\n",
            exit_code,
        )
    return "", 0


def _stopped(cause: Failure, number: int) -> tuple[str, int]:
    """Describe a job that a signal ended, whatever exit codes the ranks' handlers chose."""
    stopped = f"stopped by {signal_name(number)}"
    if cause.signal == forwarded_signal(number):
        return f"candle: {stopped}\n", 128 + number
    if number == signal.SIGINT and cause.reason == "KeyboardInterrupt":
        return cause.text(stopped), cause.code
    if cause.asks_to_run_again:
        return f"candle: {stopped}; {_AGAIN.format(cause.code)}\n", cause.code
    if cause.is_exit_code_only:
        return f"candle: {stopped}; the program exited with code {cause.code}\n", cause.code
    return cause.text(), cause.code


def _failed(cause: Failure, states: RankStates) -> tuple[str, int]:
    if cause.asks_to_run_again:
        return f"candle: {_AGAIN.format(cause.code)}\n", cause.code
    left = states.cause_of(cause)
    return (cause.text(left), 1) if left else (cause.text(), cause.code)

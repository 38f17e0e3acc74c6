"""`candle run --max-restarts`: a job that failed goes on from its last checkpoint."""

import dataclasses

from keras_candle import launcher_messages
from keras_candle.errors import EXIT_RUN_AGAIN
from keras_candle.launch.local import Job, JobLauncher, write_to_stderr


def run_again(job: Job, most: int) -> int:
    """Runs a job, and again when it failed, as long as it gets further.

    Args:
        job: what to run.
        most: how often it is started again at most.

    Returns:
        The exit code of the last run. The code for "I saved my state, run me again" is one that
        ends it: a limit or a signal of the scheduler's is behind it.
    """
    number = 0
    while True:
        variables = {
            **job.variables,
            launcher_messages.TELL_SAVED: "1",
            launcher_messages.RESTARTS: str(number),
        }
        launcher = JobLauncher(dataclasses.replace(job, variables=variables))
        code = launcher.run()
        if code in (0, EXIT_RUN_AGAIN) or launcher.stopped_by:
            return code
        end = _reason_to_end(launcher, number, most)
        if end:
            _print(f"not started again: {end}")
            return code
        number += 1
        _print(f"started again ({number} of at most {most}) {_from(launcher)}")


def _reason_to_end(launcher: JobLauncher, number: int, most: int) -> str:
    if number == most:
        return f"it was, {most} times (--max-restarts)" if most > 1 else "it was (--max-restarts)"
    # The first time, what failed may have been a node that was about to fail anyway.
    if number and not launcher.saved_steps:
        return "it failed again before it had saved anything new"
    return ""


def _from(launcher: JobLauncher) -> str:
    if launcher.saved_steps:
        return f"from the checkpoint of step {launcher.saved_steps[-1]}"
    return "as it was: no checkpoint was made (candle.CandleCallback makes them)"


def _print(sentence: str) -> None:
    write_to_stderr(f"candle: {sentence}\n".encode())

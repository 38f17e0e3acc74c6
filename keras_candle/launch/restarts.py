"""`candle run --max-restarts`: restart a failed job, which resumes from its last checkpoint."""

import dataclasses

from keras_candle import launcher_messages
from keras_candle.errors import EXIT_RUN_AGAIN
from keras_candle.launch.local import Job, JobLauncher, write_to_stderr


def run_with_restarts(job: Job, most: int) -> int:
    """Run a job and restart it when it fails, as long as it makes progress.

    Args:
        job: what to run.
        most: the largest number of restarts.

    Returns:
        The exit code of the last run. EXIT_RUN_AGAIN is not restarted: the scheduler's limit or
        signal is its cause.
    """
    number = 0
    while True:
        variables = {
            **job.variables,
            launcher_messages.NOTIFY_CHECKPOINTS: "1",
            launcher_messages.RESTARTS: str(number),
        }
        launcher = JobLauncher(dataclasses.replace(job, variables=variables))
        code = launcher.run()
        if code in (0, EXIT_RUN_AGAIN) or launcher.stopped_by:
            return code
        reason = _stop_reason(launcher, number, most)
        if reason:
            _print(f"not started again: {reason}")
            return code
        number += 1
        _print(f"started again ({number} of at most {most}) {_resume_point(launcher)}")


def _stop_reason(launcher: JobLauncher, number: int, most: int) -> str:
    if number == most:
        return f"it was, {most} times (--max-restarts)" if most > 1 else "it was (--max-restarts)"
    # The first failure may have been a node that was about to fail anyway.
    if number and not launcher.saved_steps:
        return "it failed again before it had saved anything new"
    return ""


def _resume_point(launcher: JobLauncher) -> str:
    if launcher.saved_steps:
        return f"from the checkpoint of step {launcher.saved_steps[-1]}"
    return "as it was: no checkpoint was made (candle.CandleCallback makes them)"


def _print(sentence: str) -> None:
    write_to_stderr(f"candle: {sentence}\n".encode())

"""`python -m keras_candle.checkpoints`, which `candle checkpoints` runs."""

from __future__ import annotations

import sys
import time

from keras_candle.checkpoints import manifest
from keras_candle.checkpoints.folder import CheckpointFolder
from keras_candle.checkpoints.reading import find_damage, read_state
from keras_candle.errors import CheckpointError
from keras_candle.run_directory import RunDirectory


def main(action: str, run_directory: str, *step: str) -> int:
    """List or verify the checkpoints of a run, or roll back to one.

    Args:
        action: "ls", "verify" or "rollback".
        run_directory: the run directory of CandleCallback.
        *step: step of the checkpoint to roll back to.

    Returns:
        0, or 1 when a checkpoint is damaged or the rollback fails.
    """
    directory = RunDirectory(run_directory)
    folder = CheckpointFolder(directory.checkpoints, find_damage)
    try:
        if action == "rollback":
            directory.acquire(_print)
            newer = folder.roll_back(int(step[0]))
            _print(
                f"{directory.path} resumes from step {step[0]}; set {len(newer)} newer "
                "checkpoints aside"
            )
            return 0
        return _verify(folder) if action == "verify" else _list(folder)
    except CheckpointError as error:
        print(f"candle: {error}", file=sys.stderr)
        return 1
    finally:
        directory.release()


def _list(folder: CheckpointFolder) -> int:
    _print(f"{'step':>10} {'epoch':>6} {'+steps':>7} {'ranks':>6} {'MB':>9}  written")
    best = folder.best()
    for step in folder.steps():
        path = folder.path_of(step)
        try:
            found, state = manifest.read(path), read_state(path)
        except CheckpointError as error:
            _print(f"{step:>10} {error}")
            continue
        size_mb = sum(file.size_bytes for file in found.files) / 1e6
        written = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(path.stat().st_mtime))
        values = " ".join(f"{name}={value:.6g}" for name, value in state["monitor"].items())
        marks = " best" if step == best else ""
        _print(
            f"{step:>10} {state['epoch']:>6} {state['in_epoch']:>7} {state['ranks']:>6} "
            f"{size_mb:>9.2f}  {written} {values}{marks}".rstrip()
        )
    return 0


def _verify(folder: CheckpointFolder) -> int:
    damaged = 0
    for step in folder.steps():
        damage = folder.find_damage(step)
        damaged += bool(damage)
        _print(f"{folder.path_of(step)}: {'; '.join(damage) or 'whole'}")
    return 1 if damaged else 0


def _print(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

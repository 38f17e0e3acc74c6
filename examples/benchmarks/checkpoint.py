"""What a checkpoint costs a training: CandleCallback beside Keras's ModelCheckpoint and Orbax.

    python -m examples.benchmarks.checkpoint --parameters 10 100

A dense model with Adam trains with a checkpoint after each epoch, in turn with each way to save and
with none. Printed are medians over all checkpoints:

block     from the end of an epoch's last step to the next epoch's beginning, less that of the
          training without checkpoints
stall     what a checkpoint adds to the training's time: the block, and by how much the steps that
          are taken while it is written behind are slower than the others of their epoch. Who does
          not write behind, or does not say when, has the block alone
durable   from the beginning of the checkpoint until it is on the disk (ours: as the journal says;
          beside it a plain write and fsync of as many bytes, measured between the trainings)
bytes     of the checkpoint's folder, for each byte of the model's and the optimizer's variables

epoch     with a write beside it, ours against the same write through the page cache and fsync: what
          O_DIRECT is worth

Orbax takes part where it is installed: pip install orbax-checkpoint.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import keras
import numpy as np

import keras_candle as candle
from examples.benchmarks.claims import claim
from keras_candle.run_directory import RunDirectory

EPOCHS = 4
BATCH = 32
OURS, BUFFERED = "CandleCallback", "page cache"


Interval = tuple[float, float]


class Times(keras.callbacks.Callback):
    """Notes when epochs begin and steps end, in seconds since 1970, as a run's journal does.

    It is the first in the list, so that it sees no other callback.

    Attributes:
        steps: of each epoch, when each step began and ended.
    """

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[list[Interval]] = []
        self._now_s = 0.0

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:  # noqa: ARG002
        self.steps.append([])
        self._now_s = time.time()

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:  # noqa: ARG002
        began_s, self._now_s = self._now_s, time.time()
        self.steps[-1].append((began_s, self._now_s))

    def blocks(self) -> list[float]:
        """Between one epoch's last step and the next epoch."""
        return [after[0][0] - before[-1][1] for before, after in itertools.pairwise(self.steps)]

    def epochs(self) -> list[float]:
        """Of each epoch but the first, from the last step of the one before to its own."""
        return [after[-1][1] - before[-1][1] for before, after in itertools.pairwise(self.steps)]


def usual_excesses(epochs: Sequence[Sequence[Interval]]) -> list[float]:
    """By how much each of an epoch's steps is slower than the median one where nothing is written.

    Args:
        epochs: their steps, which are equally many.
    """
    lasted = [[end - begin for begin, end in steps] for steps in epochs]
    excesses = [[each - statistics.median(steps) for each in steps] for steps in lasted]
    return [statistics.median(each) for each in zip(*excesses, strict=True)]


def slowed_by(steps: Sequence[Interval], write: Interval, usual: Sequence[float]) -> float | None:
    """By how much steps that overlap a write are slower, all together, than those that do not.

    Args:
        steps: of the epoch in which it was written.
        write: from when to when.
        usual: what `usual_excesses` returned, with the same data pipeline: an epoch's first step
            takes longer in any case.

    Returns:
        Seconds; None where no step is left to compare with.
    """
    lasted = [end - begin for begin, end in steps]
    overlaps = [begin < write[1] and end > write[0] for begin, end in steps]
    others = [each for each, overlap in zip(lasted, overlaps, strict=True) if not overlap]
    if not others:
        return None
    plain = statistics.median(others)
    each_one = zip(lasted, usual, overlaps, strict=True)
    return sum(each - plain - excess for each, excess, overlap in each_one if overlap)


def make_model(millions: int) -> keras.Model:
    width = int((millions * 1e6 / 4) ** 0.5)
    hidden = [keras.layers.Dense(width, "relu") for _ in range(4)]
    model = keras.Sequential([keras.Input((width,)), *hidden, keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return model


def plain(_: Path) -> list[keras.callbacks.Callback]:
    return []


def ours(folder: Path) -> list[keras.callbacks.Callback]:
    return [candle.CandleCallback(folder / "run", candle.Checkpoint(keep_last=1, keep_best=0))]


@contextlib.contextmanager
def page_cache() -> Iterator[None]:
    """Write without O_DIRECT inside a `with` block, as where the system does not have it."""
    flag, os.O_DIRECT = os.O_DIRECT, 0
    try:
        yield
    finally:
        os.O_DIRECT = flag


def without_checkpoints(folder: Path) -> list[keras.callbacks.Callback]:
    """Our callback, whose data pipeline is another than Keras's, with a checkpoint at the end only.

    Keras's own waits at the beginning of an epoch for a thread of the one before.
    """
    return [candle.CandleCallback(folder / "run", candle.Checkpoint(None, keep_best=0))]


def model_checkpoint(folder: Path) -> list[keras.callbacks.Callback]:
    path = str(folder / "model.weights.h5")
    return [keras.callbacks.ModelCheckpoint(path, save_weights_only=True)]


def orbax(folder: Path) -> list[keras.callbacks.Callback]:
    return [keras.callbacks.OrbaxCheckpoint(str(folder / "orbax"), save_freq="epoch")]


def ways() -> dict[str, Callable[[Path], list[keras.callbacks.Callback]]]:
    found = {"none": plain, "without": without_checkpoints, BUFFERED: ours}
    found |= {OURS: ours, "ModelCheckpoint": model_checkpoint}
    if importlib.util.find_spec("orbax") and hasattr(keras.callbacks, "OrbaxCheckpoint"):
        found["Orbax"] = orbax
    return found


def raw_write(folder: Path, size_bytes: int) -> float:
    """Seconds of writing so many bytes to a file, and syncing it."""
    data = np.random.default_rng(0).bytes(1 << 24)
    path = folder / "raw"
    began = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        for at in range(0, size_bytes, len(data)):
            file.write(data[: size_bytes - at])
        os.fsync(file.fileno())
    passed = time.perf_counter() - began
    path.unlink()
    return passed


def size_of(folder: Path) -> int:
    """Bytes of a checkpoint's files."""
    return sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())


class Comparison:
    """The trainings of one model, each with its own way to save.

    Args:
        millions: of parameters.
        steps: in an epoch.
        folder: where the checkpoints go.
    """

    def __init__(self, millions: int, steps: int, folder: Path) -> None:
        self._model = make_model(millions)
        width = self._model.input_shape[1]
        rows = np.random.default_rng(0).random((steps * BATCH, width), "float32")
        self._data = rows, rows[:, :1]
        self._folder = folder
        self._model.fit(*self._data, batch_size=BATCH, verbose=0)
        self.state_bytes = sum(
            4 * int(np.prod(each.shape))
            for each in [*self._model.variables, *self._model.optimizer.variables[2:]]
        )
        self.blocks: dict[str, list[float]] = {name: [] for name in ways()}
        self._usual: list[list[Interval]] = []
        self._written: list[tuple[list[Interval], Interval]] = []
        self.epochs: dict[str, list[float]] = {OURS: [], BUFFERED: []}
        self.durable: dict[str, list[float]] = {OURS: [], BUFFERED: []}
        self.raw: list[float] = []
        self.bytes = 0

    def train(self, *, first: int, count: bool) -> None:
        """Once with each way; each in turn is the first, and comes after another."""
        order = list(ways().items())
        for name, way in order[first % len(order) :] + order[: first % len(order)]:
            times = Times()
            cached = page_cache() if name == BUFFERED else contextlib.nullcontext()
            with cached, tempfile.TemporaryDirectory(dir=self._folder) as folder:
                callbacks = [times, *way(Path(folder))]
                self._model.fit(
                    *self._data, batch_size=BATCH, epochs=EPOCHS, verbose=0, callbacks=callbacks
                )
                if count:
                    self.blocks[name] += times.blocks()
                    if way is without_checkpoints:
                        self._usual += times.steps[1:]
                    if way is ours:
                        self._look_at_ours(name, Path(folder) / "run", times)
            os.sync()

    def _look_at_ours(self, name: str, run: Path, times: Times) -> None:
        notes = [each for each in RunDirectory(run).events() if each["event"] == "checkpoint"]
        self.epochs[name] += times.epochs()
        # The last one is written while nothing trains.
        self.durable[name] += [each["seconds"] for each in notes[:-1]]
        if name == BUFFERED:
            return
        for note, steps in zip(notes[:-1], times.steps[1:], strict=True):
            write = note["time_s"] - note["seconds"], note["time_s"]
            self._written.append((steps, write))
        self.bytes = size_of(run / "checkpoints" / os.readlink(run / "checkpoints" / "last"))
        self.raw += [raw_write(self._folder, self.bytes) for _ in range(EPOCHS)]

    def report(self, size: str) -> None:
        """Print the figures of a size."""
        median = statistics.median
        block = {
            name: median(blocks) - median(self.blocks["none"])
            for name, blocks in self.blocks.items()
        }
        usual = usual_excesses(self._usual)
        found = [slowed_by(steps, write, usual) for steps, write in self._written]
        slowed = [each for each in found if each is not None]
        if len(slowed) < len(found) / 2:
            raise SystemExit("Most writes last for a whole epoch: give it more steps.")
        stall = {**block, OURS: block[OURS] + median(slowed)}
        for name in list(block)[3:]:
            print(
                f"  {name:16} block {1000 * block[name]:8.1f} ms   "
                f"stall {1000 * stall[name]:8.1f} ms"
            )
        for what, times, limit in (("block", block, 1 / 8), ("stall", stall, 1 / 3)):
            for name in list(times)[4:]:
                bound = limit if name == "ModelCheckpoint" else None
                ours, theirs = 1000 * times[OURS], 1000 * times[name]
                claim(
                    f"{what} of a checkpoint, {size}",
                    ours,
                    "ms",
                    peer=(name, theirs),
                    at_most=bound,
                )
        raw = ("write and fsync", median(self.raw))
        until, epoch = f"until it is durable, {size}", f"an epoch with a write beside it, {size}"
        claim(until, median(self.durable[OURS]), "s", peer=raw, at_most=1.5)
        for what, times in ((until, self.durable), (epoch, self.epochs)):
            claim(what, median(times[OURS]), "s", peer=(BUFFERED, median(times[BUFFERED])))
        state = ("the state", self.state_bytes / 1e6)
        claim(f"bytes of it, {size}", self.bytes / 1e6, "MB", peer=state, at_most=1.01)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parameters", type=int, nargs="+", default=[10, 100], metavar="MILLIONS")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", help="where to write; a temporary folder by default")
    options = parser.parse_args()
    for millions in options.parameters:
        with tempfile.TemporaryDirectory(dir=options.folder) as place:
            comparison = Comparison(millions, 20 if millions < 50 else 12, Path(place))
            for number in range(options.rounds + 1):
                comparison.train(first=number, count=number > 0)
            print(f"{millions} million parameters, {comparison.state_bytes / 1e6:.0f} MB of state")
            comparison.report(f"{millions} million parameters")
            sys.stdout.flush()


if __name__ == "__main__":
    main()

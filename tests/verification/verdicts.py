"""`candle verify` within warm processes: record a program on 1 rank, on 2 and on shards; judge."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from unittest import mock

from keras_candle.verification import seed_unseeded
from keras_candle.verification.attempt import SEED
from keras_candle.verification.comparison import EQUAL, compare_runs
from keras_candle.verification.equivalence import EquivalenceCheck
from keras_candle.verification.record import read_run
from keras_candle.verification.verdict import judge, judge_failure

METHODS = ("fit", "evaluate", "train_on_batch", "make_train_function")


def record(name, folder, shards=0, exact=False):
    """Run a case as a rank of `candle verify` does; returns the error that it raised."""
    import keras

    from keras_candle import engine as engines
    from keras_candle.verification.recorder import TrainingRecorder
    from tests.verification import verdict_cases

    engine = engines.current()
    variables = EquivalenceCheck(exact=exact).variables(Path(folder), shards)
    place = os.open(f"{folder}/process-{os.getpid()}.json", os.O_WRONLY | os.O_CREAT)
    with contextlib.ExitStack() as around:
        around.enter_context(mock.patch.dict(os.environ, variables))
        for method in METHODS:
            plain = getattr(keras.Model, method)
            around.enter_context(mock.patch.object(keras.Model, method, plain))
        recorder = TrainingRecorder(folder, place, exact=exact, shards=shards)
        recorder._rank = engine.rank
        with mock.patch("atexit.register"):
            recorder.install()
        around.callback(os.close, place)
        around.callback(recorder._close)
        seed_unseeded(SEED)
        try:
            getattr(verdict_cases, name)()
        except Exception as error:
            return repr(error)
    return ""


def verdict_of(ranks, name, folder, exact=False):
    """The verdict of `candle verify` on a case with 2 ranks."""
    places = [folder / each for each in ("one", "many", "probe")]
    for each in places:
        each.mkdir()
    given = {"name": name, "exact": exact}
    (failed,) = ranks(1).run(record, folder=str(places[0]), **given)
    assert not failed, failed
    failed = max(ranks(2).run(record, folder=str(places[1]), **given))
    one, many = read_run(places[0], 1), read_run(places[1], 2)
    if not failed:
        comparisons = compare_runs(one, many)
        verdict = judge(one, many, comparisons)
        if verdict.word == EQUAL:
            return verdict
    ranks(1).run(record, folder=str(places[2]), shards=2, **given)
    probe = read_run(places[2], 1)
    if failed:
        return judge_failure(probe, 2)
    return judge(one, many, compare_runs(one, many, None, probe))

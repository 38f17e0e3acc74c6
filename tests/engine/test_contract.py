"""The laws of every engine, on 1, 2 and 3 real ranks."""

from __future__ import annotations

import time
from functools import partial

import numpy as np
import pytest

from keras_candle import engine as engines
from keras_candle.engine.base import Engine
from keras_candle.errors import CheckpointError, EngineError
from tests.rank_pool import RankError


def facts():
    engine = engines.current()
    return engine.rank, engine.size, engine.local_rank, engine.local_size, engine.is_root


def allreduce_all():
    engine = engines.current()
    own = np.arange(3.0) + engine.rank
    return {op: engine.allreduce(own, op).tolist() for op in ("sum", "mean", "min", "max")}


def allreduce_dtypes():
    engine = engines.current()
    results = {}
    for dtype in ("float16", "float32", "float64", "int32", "int64", "uint8"):
        results[dtype] = engine.allreduce(np.full((2, 3), engine.rank + 1, dtype))
    return {name: (str(x.dtype), x.shape, float(x[1, 2])) for name, x in results.items()}


def random_sum_bits():
    engine = engines.current()
    own = np.random.default_rng(engine.rank).normal(size=1001).astype(np.float32)
    return engine.allreduce(own).tobytes()


def gather_all():
    engine = engines.current()
    flags = engine.allgather(np.array([engine.rank, -engine.rank], np.int16))
    return flags.tolist(), engine.gather_objects({"rank": engine.rank})


def gather_to_root():
    return engines.current().gather_to_root({"rank": engines.current().rank})


def scatter(count):
    engine = engines.current()
    return engine.scatter([{"of": rank} for rank in range(count)] if engine.is_root else None)


class RefusedError(Exception):
    pass


class NotPicklable:
    def __reduce__(self):
        raise RefusedError("no file can be sent")


def send_what_cannot_be_packed(how):
    """The error of a collective to which the last rank, or the root, gives such an object."""
    engine = engines.current()
    last, root = engine.rank == engine.size - 1, engine.is_root
    items = [NotPicklable() if rank == 1 else rank for rank in range(engine.size)]
    collectives = {
        "gather_objects": lambda: engine.gather_objects(NotPicklable() if last else 0),
        "gather_to_root": lambda: engine.gather_to_root(NotPicklable() if last else 0),
        "gather_results_to_root": lambda: engine.gather_results_to_root(
            lambda: NotPicklable() if last else 0
        ),
        "broadcast": lambda: engine.broadcast(NotPicklable() if root else 0),
        "on_root": lambda: engine.on_root(NotPicklable),
        "scatter": lambda: engine.scatter(items if root else None),
    }
    with pytest.raises(EngineError) as raised:
        collectives[how]()
    return str(raised.value), float(engine.allreduce(1.0))


def broadcast_from(root):
    engine = engines.current()
    return engine.broadcast({"from": engine.rank, "x": np.arange(2)}, root)["from"]


def differ():
    engine = engines.current()
    return engine.differ([7, engine.rank, 2**32 - engine.rank]).tolist(), engine.differ([]).tolist()


def agree_on_rank():
    engines.current().agree("their rank", engines.current().rank)


def agree_on_seven():
    return engines.current().agree("seven", 7)


class MuteError(Exception):
    def __str__(self):
        raise ValueError


def fail_on(ranks, how):
    """Work that fails on some ranks, by `on_root` or `gather_results`."""
    engine = engines.current()

    def work():
        if engine.rank in ranks:
            raise {"key": KeyError("x"), "disk": CheckpointError("disk full"), "mute": MuteError()}[
                how
            ]
        return engine.rank

    return work


def on_root(ranks=(), how="key"):
    return engines.current().on_root(fail_on(ranks, how))


def gather_results(ranks=(), how="key", to_root=False):
    engine = engines.current()
    gather = engine.gather_results_to_root if to_root else engine.gather_results
    return gather(fail_on(ranks, how))


def bad_operation():
    engines.current().allreduce(1.0, "product")


def bad_array():
    engines.current().allreduce(np.array(["a"]))


def two_different_collectives():
    engine = engines.current()
    if engine.rank == 0:
        engine.allreduce(np.zeros(4))
    else:
        engine.allreduce(np.zeros(5))


def one_rank_elsewhere():
    engine = engines.current()
    if engine.rank == engine.size - 1:
        engine.barrier()
    else:
        engine.broadcast(1)


def last_rank_fails(where):
    import tensorflow as tf

    from keras_candle import backend

    engine = engines.current()
    waits = {
        "allreduce": lambda: engine.allreduce(1.0),
        "barrier": engine.barrier,
        "step": lambda: backend.current().sum_in_step(engine, [tf.ones(3)], name="step"),
    }
    problem = "out of memory"
    if engine.rank < engine.size - 1:
        try:
            waits[where]()
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
    return engine.meet_again(problem), float(engine.allreduce(1.0))


def groups():
    engine = engines.current()
    group = engine.split(color=engine.rank % 2)
    total = float(group.allreduce(engine.rank))
    with engines.use(group):
        inside = engines.current().size
    return group.rank, group.size, total, inside


def groups_in_reverse():
    engine = engines.current()
    return engine.split(color=0, key=-engine.rank).rank


def root_first(path):
    engine = engines.current()

    def write():
        with open(path, "w") as file:
            file.write("whole")
        return "written"

    result = engine.after_root(write, f"write {path}")
    with open(path) as file:
        return result, file.read()


def root_fails():
    def write():
        raise OSError("the disk is full")

    engines.current().after_root(write, "write")


def root_alone():
    """A root that does something alone must not wait for anybody."""
    engine = engines.current()
    if engine.is_root:
        engine.after_root(lambda: None, "alone")
    return float(engine.allreduce(1.0))


def root_alone_before_all(path):
    """What each rank reads after the root's action, when the root has acted alone before."""
    engine = engines.current()

    def write(text, part=None):
        def action():
            if part:
                engine.after_root(write(part), "write")
            time.sleep(0.1)  # who does not wait for this action reads what is there before
            with open(path, "a") as file:
                file.write(f"{text} ")

        return action

    def read_after(text):
        engine.after_root(write(text, part="part"), "write")
        with open(path) as file:
            return file.read().split()

    if engine.is_root:
        engine.after_root(write("alone"), "another")
        engine.after_root(write("alone"), "write")
    engine.barrier()
    if engine.is_root:
        engine.after_root(write("alone"), "another")
    first = read_after("all")
    engine.barrier()
    return first, read_after("all")


def other_names():
    engine = engines.current()
    engine.same_name_within_s = 0.2
    engine.after_root(lambda: None, f"save model-{engine.rank}")


def tensors_in_graph(eager):
    import tensorflow as tf

    from keras_candle.backend.tensorflow.collectives import concat_in_step, sum_in_step

    engine = engines.current()
    dense = [tf.fill([2, 2], engine.rank + 1.0), tf.constant([1], tf.int32) * 0 + 1]
    dense[1] = tf.cast(dense[1], tf.float64)
    rows = tf.fill([engine.rank + 1, 2], float(engine.rank))

    def exchange(a, b, c):
        summed = sum_in_step(engine, [a, b], name="test")
        (whole,) = concat_in_step(engine, [c], name="test")
        return *summed, whole

    function = exchange if eager else tf.function(exchange)
    a, b, c = function(*dense, rows)
    return float(a[1, 1]), b.dtype.name, float(b[0]), c.numpy()[:, 0].tolist()


def sums_in_buckets(bytes_of_bucket):
    """Sums of five tensors in a graph, and which of them each of Horovod's operations sums."""
    import tensorflow as tf

    from keras_candle.backend.tensorflow import collectives

    engine = engines.current()
    before, collectives._BUCKET_BYTES = collectives._BUCKET_BYTES, bytes_of_bucket

    @tf.function
    def summed():
        sent = [tf.fill([n], n * (engine.rank + 1.0)) for n in range(1, 6)]
        return collectives.sum_in_step(engine, sent, name="buckets")

    try:
        graph = summed.get_concrete_function().graph
    finally:
        collectives._BUCKET_BYTES = before
    groups = [
        [each.shape[0] for each in operation.inputs]
        for operation in graph.get_operations()
        if operation.type == "HorovodGroupedAllreduce"
    ]
    return [each.numpy().tolist() for each in summed()], groups


def half_tensors():
    import tensorflow as tf

    from keras_candle import backend

    engine = engines.current()
    sums = [
        backend.current().sum_in_step(engine, [tf.constant([1.5, -2.0], dtype)], name=dtype.name)[0]
        for dtype in (tf.float16, tf.bfloat16)
    ]
    return [(each.dtype.name, tf.cast(each, tf.float32).numpy().tolist()) for each in sums]


class Job:
    def __init__(self, pool, engine):
        self.run = partial(pool.run, engine=engine)
        self.errors = partial(pool.errors, engine=engine)


class EngineContract:
    engine: str
    sizes: tuple[int, ...] = (1, 2, 3)

    @pytest.fixture
    def job(self, ranks, size):
        return Job(ranks(size), self.engine)

    def test_ranks_know_who_they_are(self, job, size):
        assert job.run(facts) == [(r, size, r, size, r == 0) for r in range(size)]

    def test_allreduce_combines_elements(self, job, size):
        stack = np.arange(3.0) + np.arange(size)[:, None]
        expected = {op: getattr(stack, op)(axis=0).tolist() for op in ("sum", "mean", "min", "max")}
        assert job.run(allreduce_all) == [expected] * size

    def test_allreduce_keeps_dtype_and_shape(self, job, size):
        for result in job.run(allreduce_dtypes):
            for dtype, found in result.items():
                assert found == (dtype, (2, 3), size * (size + 1) / 2)

    def test_sums_have_the_same_bits_on_all_ranks(self, job):
        assert len(set(job.run(random_sum_bits))) == 1

    def test_gathers_are_by_rank(self, job, size):
        flags = [[r, -r] for r in range(size)]
        assert job.run(gather_all) == [(flags, [{"rank": r} for r in range(size)])] * size

    def test_what_is_gathered_to_the_root_is_there_alone(self, job, size):
        gathered = [{"rank": r} for r in range(size)]
        assert job.run(gather_to_root) == [gathered, *[None] * (size - 1)]

    def test_scatter_gives_each_rank_its_own_object(self, job, size):
        assert job.run(scatter, count=size) == [{"of": r} for r in range(size)]
        assert all("scatter got" in error for error in job.errors(scatter, count=size + 1))

    def test_broadcast_gives_the_roots_object(self, job, size):
        assert job.run(broadcast_from, root=size - 1) == [size - 1] * size

    def test_broadcast_refuses_a_root_that_is_none(self, job, size):
        assert all("root=9" in error for error in job.errors(broadcast_from, root=9))

    def test_what_differs_by_rank_is_known_on_all(self, job, size):
        assert job.run(differ) == [([False, size > 1, size > 1], [])] * size

    def test_agreement(self, job, size):
        assert job.run(agree_on_seven) == [7] * size

    def test_disagreement_lists_every_rank(self, job, size):
        if size == 1:
            assert job.run(agree_on_rank) == [None]
            return
        for error in job.errors(agree_on_rank):
            assert error.startswith("EngineError: The ranks differ in their rank:")
            assert all(f"rank {r}: {r}" in error for r in range(size))

    def test_bad_arguments_say_what_is_expected(self, job):
        assert all("'sum', 'mean', 'min', 'max'" in error for error in job.errors(bad_operation))
        assert all("expected a numeric one" in error for error in job.errors(bad_array))

    def test_different_collectives_never_meet_in_silence(self, job, size):
        if size == 1:
            return
        for case, named in ((two_different_collectives, "(5,)"), (one_rank_elsewhere, "barrier")):
            for error in job.errors(case):
                assert error.startswith("EngineError: The ranks are at different places")
                assert named in error

    def test_the_root_goes_first_and_waits_for_nobody(self, job, size, tmp_path):
        others = [(None, "whole")] * (size - 1)
        assert job.run(root_first, path=str(tmp_path / "f")) == [("written", "whole"), *others]
        assert job.run(root_alone) == [float(size)] * size

    def test_what_the_root_did_alone_is_not_taken_for_what_all_wait_for(self, job, size, tmp_path):
        first = ["alone"] * 3 + ["part", "all"]
        results = job.run(root_alone_before_all, path=str(tmp_path / "file"))
        assert results == [(first, [*first, "part", "all"])] * size

    def test_what_fails_on_the_root_fails_on_all(self, job, size):
        first, *others = job.errors(root_fails)
        assert first == "OSError: the disk is full"
        told = "EngineError: write failed on the root: OSError: the disk is full"
        assert others == [told] * (size - 1)

    @pytest.mark.parametrize("eager", [False, True])
    def test_tensors(self, job, size, eager):
        rows = [float(r) for r in range(size) for _ in range(r + 1)]
        expected = (size * (size + 1) / 2, "float64", float(size), rows)
        assert job.run(tensors_in_graph, eager=eager) == [expected] * size

    def test_sixteen_bit_tensors(self, job, size):
        sums = [1.5 * size, -2.0 * size]
        assert job.run(half_tensors) == [[("float16", sums), ("bfloat16", sums)]] * size

    def test_split_makes_groups(self, job, size):
        members = [[r for r in range(size) if r % 2 == c] for c in (0, 1)]
        expected = [
            (members[r % 2].index(r), len(group := members[r % 2]), float(sum(group)), len(group))
            for r in range(size)
        ]
        assert job.run(groups) == expected
        assert job.run(groups_in_reverse) == list(reversed(range(size)))


@pytest.mark.parametrize("size", [1])
class TestSingle(EngineContract):
    engine = "single"


@pytest.mark.parametrize("size", [1, 2, 3])
class TestMpi(EngineContract):
    engine = "mpi"

    @pytest.mark.parametrize("where", ["allreduce", "barrier", "step"])
    def test_who_waits_for_a_failed_rank_is_freed(self, job, size, where):
        for problems, total in job.run(last_rank_fails, where=where):
            assert problems[-1] == "out of memory"
            freed = [f"EngineError: rank {size - 1} has failed" in each for each in problems[:-1]]
            assert freed == [True] * (size - 1)
            assert total == size


@pytest.mark.parametrize("size", [1, 2, 3])
class TestHorovod(EngineContract):
    engine = "horovod"

    def test_split_makes_groups(self, job, size):
        assert all("candle run --engine mpi" in error for error in job.errors(groups))

    def test_the_last_gradients_travel_first_and_wait_for_no_others(self, job, size):
        ranks = size * (size + 1) / 2
        sums = [[n * ranks] * n for n in range(1, 6)]
        assert job.run(sums_in_buckets, bytes_of_bucket=40) == [(sums, [[5, 4], [3, 2, 1]])] * size
        assert (
            job.run(sums_in_buckets, bytes_of_bucket=1)
            == [(sums, [[5], [4], [3], [2], [1]])] * size
        )


def test_every_engine_is_under_the_contract():
    covered = {each.engine for each in EngineContract.__subclasses__()}
    assert covered == set(engines.ENGINES)
    assert all(issubclass(type(engines.make("single")), Engine) for _ in covered)


def test_unknown_engine_is_named():
    with pytest.raises(EngineError, match="engine='nccl' is unknown, expected one of 'auto'"):
        engines.start("nccl")


@pytest.mark.parametrize(
    "how",
    [
        *("gather_objects", "gather_to_root", "gather_results_to_root"),
        *("scatter", "broadcast", "on_root"),
    ],
)
@pytest.mark.parametrize("engine", ["mpi", "horovod"])
def test_an_object_that_cannot_be_packed_is_an_error_of_all_ranks(ranks, engine, how):
    for error, total in ranks(2).run(send_what_cannot_be_packed, how=how, engine=engine):
        assert "cannot be pickled (RefusedError: no file can be sent)" in error
        assert total == 2


@pytest.mark.parametrize("engine", ["mpi", "horovod"])
def test_what_the_root_raises_all_ranks_raise(ranks, engine):
    run, errors = partial(ranks(2).run, engine=engine), partial(ranks(2).errors, engine=engine)
    assert run(on_root, ranks=[1]) == [0, 0]
    assert set(errors(on_root, ranks=[0])) == {"EngineError: KeyError: 'x'"}
    assert set(errors(on_root, ranks=[0], how="disk")) == {"CheckpointError: disk full"}


@pytest.mark.parametrize("to_root", [False, True])
def test_what_one_rank_raises_all_ranks_raise(ranks, to_root):
    def errors(of, how="key"):
        return set(ranks(3).errors(gather_results, ranks=of, how=how, to_root=to_root))

    gathered = [[0, 1, 2], *([None] * 2 if to_root else [[0, 1, 2]] * 2)]
    assert ranks(3).run(gather_results, to_root=to_root) == gathered
    assert errors([1]) == {"EngineError: rank 1: KeyError: 'x'"}
    assert errors([0, 1, 2], "disk") == {"CheckpointError: disk full"}
    mute = "EngineError: rank 1: MuteError: (its message raises ValueError)"
    assert errors([1], "mute") == {mute}
    assert errors([0, 2], "disk") == {"CheckpointError: rank 0: disk full\nrank 2: disk full"}


@pytest.mark.parametrize("engine", ["mpi", "horovod"])
def test_a_name_that_differs_by_rank_is_no_endless_wait(ranks, engine):
    with pytest.raises(RankError, match="'save model-1', and the root has done 'save model-0'"):
        ranks(2).run(other_names, engine=engine)

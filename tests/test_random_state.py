import random
from functools import partial, wraps

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_candle.checkpoints.plain import is_plain
from keras_candle.random_state import draws_in, find_generators, fold_in, get_state, set_state

in_this_file = np.random.default_rng(11)


def python_generator(seed):
    return random.Random(seed)  # noqa: S311 - no secret


def drawn_by_a_helper():
    return in_this_file.random()


class Noise:
    __slots__ = ("rng",)

    def __init__(self, rng):
        self.rng = rng


class Data:
    of_class = np.random.RandomState(1)

    def __init__(self):
        rng = np.random.default_rng(2)
        self.rng, self.again = rng, rng
        self.augmenters = [Noise(python_generator(3)), {"flip": keras.layers.RandomFlip(seed=4)}]
        self.jitter = partial(np.add, rng=np.random.RandomState(5))
        self.draw = python_generator(6).random
        self.closure = lambda: [keras_generator.next()]
        self.of_tensorflow = tf.random.Generator.from_seed(8)
        self.bits = np.random.MT19937(9)
        self.of_system, self.modules = random.SystemRandom(), (np.random, random)
        self.itself, self.names = self, ["a"] * 3
        keras_generator = keras.random.SeedGenerator(7)

    def __len__(self):
        return int(drawn_by_a_helper())


def test_generators_are_found_wherever_an_object_keeps_them():
    paths = find_generators(Data())
    flip = {path for path in paths if path.startswith("augmenters[1]['flip']")}
    assert len(flip) == 1
    assert set(paths) - flip == {
        "rng",
        "augmenters[0].rng",
        "jitter['rng']",
        "draw",
        "closure.keras_generator",
        "of_tensorflow",
        "bits",
        "of_class",
        "__len__.drawn_by_a_helper.in_this_file",
    }


def test_a_model_that_trains_on_ranks_keeps_generators_of_its_own():
    data, model = Data(), keras.Sequential([keras.Input((2,)), keras.layers.Dropout(0.5)])
    data.model = model
    assert any(path.startswith("model.") for path in find_generators(data))
    object.__setattr__(model, "_candle_trainer", None)
    assert not any(path.startswith("model.") for path in find_generators(data))


def draw(generator):
    if isinstance(generator, np.random.BitGenerator):
        return generator.random_raw()
    if isinstance(generator, keras.random.SeedGenerator):
        return np.array(keras.random.uniform((), seed=generator)).item()
    if isinstance(generator, tf.random.Generator):
        return generator.uniform(()).numpy().item()
    return generator.random()


@pytest.mark.parametrize("path", sorted(find_generators(Data())))
def test_a_generator_continues_from_a_state(path):
    generator, in_another_process = (find_generators(Data())[path] for _ in range(2))
    state = get_state(generator)
    assert is_plain(state)
    expected = [draw(generator) for _ in range(5)]
    set_state(generator, state)
    assert [draw(generator) for _ in range(5)] == expected
    set_state(in_another_process, state)
    assert [draw(in_another_process) for _ in range(5)] == expected


@pytest.mark.parametrize("path", sorted(find_generators(Data())))
def test_each_number_gives_a_stream_of_its_own_that_can_be_drawn_again(path):
    def drawn(number):
        generator = find_generators(Data())[path]
        set_state(generator, state)
        fold_in(generator, number)
        return [draw(generator) for _ in range(3)]

    state = get_state(find_generators(Data())[path])
    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


@pytest.mark.parametrize("before", [0, 1, 3])
def test_generators_that_are_spawned_are_those_to_come(before):
    generator, other = np.random.default_rng(1), np.random.default_rng(1)
    generator.spawn(1)
    other.spawn(before)
    if before > 1 and np.lib.NumpyVersion(np.__version__) < "2.0.0":
        with pytest.raises(ValueError, match="2 more than in the state"):
            set_state(other, get_state(generator))
        return
    set_state(other, get_state(generator))
    assert other.spawn(1)[0].random() == generator.spawn(1)[0].random()


def test_a_state_of_another_kind_is_refused():
    state = get_state(np.random.Generator(np.random.MT19937(1)))
    with pytest.raises(ValueError, match="state of a Generator MT19937 for a Generator PCG64"):
        set_state(np.random.default_rng(1), state)


def with_a_wrapper(function):
    @wraps(function)
    def call(*args):
        return function(*args)

    return call


class Reads:
    def __init__(self):
        self.rng, self.noise, self.flip = np.random.default_rng(1), np.random.normal, [Noise(1)]
        self.layers = [keras.layers.RandomFlip(seed=4)]

    def __len__(self):
        return 4

    def own(self):
        return self.rng.random()

    def by_method(self):
        return len(self) * self.own()

    @property
    def scale(self):
        return random.uniform(0, 1)  # noqa: S311 - no secret

    def by_property(self):
        return 2 * self.scale

    @with_a_wrapper
    def wrapped(self):
        return self.rng.random()

    def by_function(self):
        return drawn_by_a_helper()

    def by_attribute(self):
        return self.noise()

    def by_layer(self):
        return self.layers[0](1)

    def globally(self):
        return np.random.normal(len(self))

    def by_number(self):
        return np.random.default_rng(3).normal(len(self), self.flip)

    def not_at_all(self):
        return [self.flip, np.ones(len(self))]


@pytest.mark.parametrize("name", [each for each in vars(Reads) if each[0] != "_"])
def test_the_code_of_a_method_shows_whether_it_draws(name):
    assert draws_in(Reads(), name) is (name not in ("by_number", "not_at_all"))

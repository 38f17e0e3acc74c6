"""Recognise calls that draw random numbers without a seed."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator

from keras_candle.lint.names import Module, argument, constant
from keras_candle.lint.scopes import position
from keras_candle.lint.script import Script

SEED_ALL = "keras.utils.set_random_seed(0) before it"
# call -> the generators that it seeds
_SEEDS = {
    "keras.utils.set_random_seed": ("python", "numpy", "tensorflow"),
    "keras.utils.rng_utils.set_random_seed": ("python", "numpy", "tensorflow"),
    "numpy.random.seed": ("numpy",),
    "random.seed": ("python",),
    "tensorflow.random.set_seed": ("tensorflow",),
    "tensorflow.compat.v1.set_random_seed": ("tensorflow",),
    "tensorflow.set_random_seed": ("tensorflow",),
    "torch.manual_seed": ("torch",),
}
# Values that each process has for itself, and so no seeds.
_OF_A_PROCESS = ("time.", "datetime.datetime.", "os.getpid", "os.urandom", "uuid.", "secrets.")
# Names of functions out of the script that seed all of them.
_SEEDING = (
    *("set_seed", "set_seeds", "set_all_seeds", "set_global_seed", "set_random_seed"),
    *("seed_everything", "seed_all", "fix_seed", "set_global_determinism"),
)
_NO_DRAWS = ("seed", "get_state", "set_state", "default_rng", "RandomState", "Generator")
GENERATORS = ("numpy.random.default_rng", "numpy.random.RandomState", "random.Random")
_PYTHON = (
    *("shuffle", "sample", "random", "randint", "randrange", "choice", "choices", "getrandbits"),
    *("uniform", "gauss", "normalvariate", "betavariate", "expovariate", "triangular"),
)
_TENSORFLOW = ("uniform", "normal", "shuffle", "truncated_normal")
_ALWAYS_SHUFFLE = (
    "ShuffleSplit",
    "StratifiedShuffleSplit",
    "GroupShuffleSplit",
    "train_test_split",
    "RepeatedKFold",
    "RepeatedStratifiedKFold",
)
_FOLDERS = (
    "image_dataset_from_directory",
    "text_dataset_from_directory",
    "audio_dataset_from_directory",
)
_KERAS_DATA = ("keras.utils", "keras.preprocessing")
# Calls of tf.data that draw an order: the places of shuffle, if they have it, and of the seed.
_DRAWN_ORDERS: dict[str, tuple[int | None, str, int]] = {
    "tensorflow.data.Dataset.sample_from_datasets": (None, "seed", 2),
    "tensorflow.data.experimental.sample_from_datasets": (None, "seed", 2),
    "tensorflow.data.Dataset.random": (None, "seed", 0),
    "tensorflow.data.Dataset.list_files": (1, "seed", 2),
    "tensorflow.data.experimental.make_csv_dataset": (11, "shuffle_seed", 13),
    "tensorflow.data.experimental.make_batched_features_dataset": (7, "shuffle_seed", 9),
}
_SPLITS = ("numpy.random.shuffle", "numpy.random.permutation", "random.shuffle")


@dataclasses.dataclass(frozen=True)
class Draw:
    """A call that draws without a seed of its own.

    Attributes:
        generator: "python", "numpy", "tensorflow" or "torch" for a global one, "own" for one that
            no global seed reaches.
        remedy: how to seed it.
        splits: whether it orders, chooses or divides rows.
        of_dataset: whether it draws the order of a tf.data.Dataset.
    """

    generator: str
    remedy: str
    splits: bool = False
    of_dataset: bool = False


class Seeds:
    """The global seeds that a script sets.

    Args:
        script: the script.
    """

    def __init__(self, script: Script) -> None:
        self.calls = [
            (module, call, name)
            for module, call, name in script.calls()
            if name in _SEEDS and _is_seed(module, _first(call))
        ]
        self._elsewhere = [
            (module, call)
            for module, call, name in script.calls()
            if name not in _SEEDS and name.rpartition(".")[2] in _SEEDING
            if not script.objects.functions(module, call.func)
        ]
        self._auto = script.auto

    def reach(self, draw: Draw, module: Module, call: ast.Call) -> bool:
        """Return whether a draw's generator is seeded before it, judged by the order of lines."""
        of_auto = draw.generator != "torch" and module.dotted(call.func) != "random.Random"
        if self._auto and of_auto:
            return True  # `candle run --auto` sets them
        inside = module.function(call) is not None
        seeds = [
            (owner, each) for owner, each, name in self.calls if draw.generator in _SEEDS[name]
        ]
        seeds += self._elsewhere if draw.generator not in ("own", "torch") else []
        return any(
            owner is not module or inside or position(seed) < position(call)
            for owner, seed in seeds
        )


def draw_of(script: Script, module: Module, call: ast.Call) -> Draw | None:
    """Return the draw that a call is; None for one with a seed, and where it draws nothing."""
    name = module.dotted(call.func)
    if name in GENERATORS:
        return None if _is_seed(module, _first(call)) else Draw("own", f"{name}(0)")
    if name.startswith("sklearn."):
        return _draw_of_sklearn(call, *name.rsplit(".", 1))
    return (
        _draw_of_global(module, name)
        or _draw_of_dataset(script, module, call, name)
        or _draw_of_framework(call, name)
        or _draw_of_method(script, module, call)
    )


def shown(call: ast.Call) -> str:
    """Return a call's text without its arguments."""
    text = ast.unparse(call.func)
    return f".{text.split('.')[-1]}()" if "(" in text else f"{text}()"


def _draw_of_global(module: Module, name: str) -> Draw | None:
    """Return the draw from NumPy's or Python's global generator."""
    package, _, last = name.rpartition(".")
    if package == "numpy.random" and last not in _NO_DRAWS and last[:1].islower():
        return Draw("numpy", SEED_ALL, name in _SPLITS)
    if package == "random" and last in _PYTHON and module.imports(package):
        return Draw("python", SEED_ALL, name in _SPLITS)
    return None


def _draw_of_dataset(script: Script, module: Module, call: ast.Call, name: str) -> Draw | None:
    last = name.rpartition(".")[2]
    if name in _DRAWN_ORDERS:
        return _draw_of_files(call, name)
    if name in ("tensorflow_datasets.load", "tensorflow_datasets.builder().as_dataset"):
        return _draw_of_tfds(script, module, call, last)
    seeded = argument(call, "seed") is not None or constant(argument(call, "shuffle")) is False
    return None if seeded or not name.startswith(_KERAS_DATA) else _draw_of_keras_data(call, last)


def _draw_of_framework(call: ast.Call, name: str) -> Draw | None:
    package, _, last = name.rpartition(".")
    if name == "torch.utils.data.DataLoader":
        return _draw_of_loader(call)
    if argument(call, "seed") is not None:
        return None
    if package == "keras.random" and last != "SeedGenerator":
        return Draw("python", SEED_ALL)
    if package == "tensorflow.random" and last in _TENSORFLOW:
        return Draw("tensorflow", SEED_ALL)
    if package == "keras.initializers" and last.endswith("()"):  # RandomNormal()(shape)
        return _draw_of_initializer(call, last)
    return None


def _draw_of_loader(call: ast.Call) -> Draw | None:
    shuffles = constant(argument(call, "shuffle", 2)) is True
    if not shuffles or _is_given(argument(call, "generator")):
        return None
    remedy = "torch.manual_seed(0) before it, or generator=torch.Generator().manual_seed(0)"
    return Draw("torch", remedy, splits=True)


def _draw_of_files(call: ast.Call, name: str) -> Draw | None:
    shuffle_place, seed_name, seed_place = _DRAWN_ORDERS[name]
    if constant(argument(call, "shuffle", shuffle_place)) is False:
        return None
    if _is_given(argument(call, seed_name, seed_place)):
        return None
    remedy = f"{SEED_ALL}, or {name.rpartition('.')[2]}(..., {seed_name}=0)"
    return Draw("tensorflow", remedy, splits=True, of_dataset=True)


def _draw_of_tfds(script: Script, module: Module, call: ast.Call, last: str) -> Draw | None:
    """Return the draw of shuffled files: without a seed there the reader keeps no order either."""
    shuffles = argument(call, "shuffle_files")
    if argument(call, "read_config") or not script.objects.may_be(module, shuffles, True):
        return None
    remedy = f"{last}(..., read_config=tfds.ReadConfig(shuffle_seed=0))"
    return Draw("own", remedy, splits=True, of_dataset=True)


def _draw_of_initializer(call: ast.Call, last: str) -> Draw | None:
    made = call.func
    kinds = ("Random", "Glorot", "He", "Lecun", "Truncated", "VarianceScaling", "Orthogonal")
    draws = last.startswith(kinds) and isinstance(made, ast.Call)
    if not draws or _is_given(argument(made, "seed")):  # type: ignore[arg-type]
        return None
    return Draw("python", SEED_ALL)


def _draw_of_keras_data(call: ast.Call, last: str) -> Draw | None:
    shuffles = constant(argument(call, "shuffle")) is True
    if last == "split_dataset" and shuffles:
        return Draw("python", "split_dataset(..., seed=0)", splits=True, of_dataset=True)
    by_default = last in _FOLDERS
    if by_default or (
        shuffles and last.endswith(("from_directory", "timeseries_dataset_from_array"))
    ):
        return Draw("numpy", f"{last}(..., seed=0)", splits=True, of_dataset=True)
    return None


def _draw_of_sklearn(call: ast.Call, package: str, last: str) -> Draw | None:
    draws = (
        last in _ALWAYS_SHUFFLE
        or (last.endswith("KFold") and constant(argument(call, "shuffle")) is True)
        or (package == "sklearn.utils" and last in ("shuffle", "resample"))
        or (package == "sklearn.datasets" and last.startswith("make_"))
    )
    state = argument(call, "random_state")
    if not draws or _is_given(state) or constant(argument(call, "shuffle")) is False:
        return None
    return Draw("numpy", f"{last}(..., random_state=0)", splits=not last.startswith("make_"))


def _draw_of_method(script: Script, module: Module, call: ast.Call) -> Draw | None:
    function = call.func
    if not isinstance(function, ast.Attribute):
        return None
    if function.attr == "sample" and argument(call, "frac") is not None:  # pandas
        given = argument(call, "random_state")
        remedy = ".sample(..., random_state=0)"
        return Draw("numpy", remedy, splits=True) if given is None else None
    if isinstance(function.value, ast.Attribute) and (made := unseeded(script, module, call)):
        orders = function.attr in ("shuffle", "permutation", "permuted", "choice")
        return Draw("own", f"{ast.unparse(made.func)}(0)", splits=orders)
    seeded = function.attr != "shuffle" or _is_given(argument(call, "seed", 1))
    if seeded or not is_dataset(script, module, function.value):
        return None
    remedy = f"{SEED_ALL}, or .shuffle(..., seed=0)"
    return Draw("tensorflow", remedy, splits=True, of_dataset=True)


def unseeded(script: Script, module: Module, call: ast.Call) -> ast.Call | None:
    """Return what makes the generator without a seed of which a call is a method, else None."""
    if not isinstance(call.func, ast.Attribute):
        return None
    for owner, made in _calls_of(script, module, call.func.value):
        if is_unseeded_generator(owner, made):
            return made
    return None


def is_unseeded_generator(module: Module, node: ast.AST) -> bool:
    """Return whether a node makes a generator without a seed."""
    if not isinstance(node, ast.Call) or module.dotted(node.func) not in GENERATORS:
        return False
    return not _is_seed(module, _first(node))


def is_dataset(script: Script, module: Module, node: ast.AST) -> bool:
    """Return whether an expression is a tf.data.Dataset, judged by where it is made."""
    waiting, seen = [(module, node)], {node}
    for owner, each in waiting:  # grows as it goes
        for made_in, call in _calls_of(script, owner, each):
            if _makes_dataset(made_in.dotted(call.func)):
                return True
            before = call.func.value if isinstance(call.func, ast.Attribute) else None
            if before is not None and before not in seen:
                seen.add(before)
                waiting.append((made_in, before))
    return False


def _calls_of(script: Script, module: Module, node: ast.AST) -> Iterator[tuple[Module, ast.Call]]:
    """Yield the calls that may make an object."""
    for origin in script.objects.origins(module, node):
        for each in script.objects.parts(origin):
            if isinstance(each.node, ast.Call):
                yield each.module, each.node


def _makes_dataset(name: str) -> bool:
    if name.startswith(("tensorflow.data.", "tensorflow_datasets.")):
        return True
    package, _, last = name.rpartition(".")
    of_folder = last.endswith(("dataset_from_directory", "timeseries_dataset_from_array"))
    return of_folder and package.startswith(_KERAS_DATA)


def _is_given(value: ast.expr | None) -> bool:
    return value is not None and not (isinstance(value, ast.Constant) and value.value is None)


def _first(call: ast.Call) -> ast.expr | None:
    return next(iter((*call.args, *(each.value for each in call.keywords))), None)


def _is_seed(module: Module, value: ast.expr | None) -> bool:
    """Return whether a value given as a seed is one for all ranks."""

    def differs(node: ast.AST) -> bool:
        return isinstance(node, ast.Call) and module.dotted(node.func).startswith(_OF_A_PROCESS)

    return value is not None and _is_given(value) and module.find(value, differs) is None

"""Record facts in a dry run of a script that reading it does not show.

`candle check` runs the script with this module's `prepare` called first. Facts are JSON objects,
one a line, written as they happen: a stopped script leaves all facts before the stop.
`keras_candle.lint.dry_run_findings` judges them.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterator
from types import FrameType, ModuleType
from typing import Any

from keras_candle.launcher_messages import AUTO_SEED
from keras_candle.seeding import seed_unseeded
from keras_candle.when_imported import when_imported

FACTS = "KERAS_CANDLE_DRY_RUN_FACTS"
"""Environment variable: the file that the facts are written to."""
SCRATCH = "KERAS_CANDLE_DRY_RUN_SCRATCH"
"""Environment variable: the only folder that may be written to."""
SOURCES = "KERAS_CANDLE_DRY_RUN_SOURCES"
"""Environment variable: folders of the script's own files, by os.pathsep."""
_RECORDERS = "keras_candle.lint.dry_run"
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Python's event -> which of its arguments are paths that change
_CHANGES = {
    "os.mkdir": (0,),
    "os.remove": (0,),
    "os.rename": (0, 1),
    "os.rmdir": (0,),
    "os.truncate": (0,),
    "os.chmod": (0,),
    "os.link": (1,),
    "os.symlink": (1,),
    "shutil.rmtree": (0,),
}
# Whether the path must exist for the change to work; where the call fails anyway, let it fail.
_NEEDS = {
    "os.mkdir": False,
    **dict.fromkeys(("os.remove", "os.rmdir", "os.truncate", "os.chmod", "shutil.rmtree"), True),
}
_SYSTEM = ("/dev/", "/proc/", "/sys/")
# Their own files, safe on every rank: model.save and the callbacks write on the root only.
_SAFE_WRITERS = ("keras", "keras_candle")
_STEPS = 2
_BATCH_HOOKS = tuple(
    f"on_{what}batch_{when}" for what in ("", "train_") for when in ("begin", "end")
)
_OURS = ("keras", "keras_candle", "keras_tuner")


def prepare() -> None:
    """Record what the program in this process does, and protect the user's files from it."""
    journal = guard_files()
    if AUTO_SEED in os.environ:
        seed_unseeded(int(os.environ[AUTO_SEED]))
    when_imported("keras", lambda keras: watch_training(keras, journal))


def guard_files() -> FactLog:
    """Protect the user's files from the program in this process.

    Returns:
        The log of facts.
    """
    sources = tuple(os.environ[SOURCES].split(os.pathsep))
    journal = FactLog(os.environ[FACTS], sources)
    watch_files(journal, os.environ[SCRATCH])
    return journal


class FactLog:
    """Append facts to a file.

    Args:
        path: the file.
        sources: folders of the script's own files.
    """

    def __init__(self, path: str, sources: tuple[str, ...]) -> None:
        self._sources = tuple(os.path.join(source, "") for source in sources)
        self._written: set[str] = set()
        # Kept open: writing a fact then causes no event for the audit hook.
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(self, kind: str, lines: list[tuple[str, int]], **words: Any) -> None:
        """Write a fact, unless the same one is written already; "fit" is written each time.

        Args:
            kind: the kind of fact.
            lines: the script's lines that it comes from, the innermost first; without any, the
                script did not cause it, and it is left out.
            **words: further fields.
        """
        fact = json.dumps({"kind": kind, "lines": lines, **words})
        if lines and (kind == "fit" or fact not in self._written):
            self._written.add(fact)
            os.write(self._file, f"{fact}\n".encode())

    def lines(self) -> list[tuple[str, int]]:
        """Return the script's own lines on the call stack, the innermost first."""
        return [(frame.f_code.co_filename, frame.f_lineno) for frame in self._own_frames()]

    def called_by_script(self, packages: tuple[str, ...]) -> bool:
        """Return whether the script's innermost line calls into one of these packages."""
        callee = ""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and not self.is_own(frame.f_code.co_filename):
            name = frame.f_globals.get("__name__", "")
            callee = callee if name.startswith(_RECORDERS) else name
            frame = frame.f_back
        return callee.partition(".")[0] in packages

    def is_own(self, file: str) -> bool:
        """Return whether a file is the script's, or one beside it."""
        return file.startswith(self._sources) and "site-packages" not in file

    def _own_frames(self) -> list[FrameType]:
        found = []
        frame: FrameType | None = sys._getframe(2)
        while frame is not None:
            if self.is_own(frame.f_code.co_filename):
                found.append(frame)
            frame = frame.f_back
        return found


def watch_files(journal: FactLog, scratch: str) -> None:
    """Refuse changes of files outside of a folder, and record what the script opens to write.

    Python's audit hook covers every file that Python opens, not those that native code opens
    (HDF5, TensorFlow's checkpoints). Those are safe only in the copy of the script's folder.

    Args:
        journal: gets the facts.
        scratch: the folder, with the copy in it.
    """
    guard = _FileGuard(journal, os.path.realpath(scratch))
    sys.addaudithook(guard.handle)


class _FileGuard:
    def __init__(self, journal: FactLog, scratch: str) -> None:
        self._journal, self._scratch = journal, os.path.join(scratch, "")
        self._temporary = os.path.join(os.path.realpath(os.environ["TMPDIR"]), "")
        self._home = os.path.join(
            os.path.realpath(os.path.expanduser("~")), "."
        )  # ~/.keras, ~/.cache
        # The folder that is copied.
        self._original = os.path.join("/", os.path.relpath(os.getcwd(), scratch), "")
        self._busy = False

    def handle(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Handle an event of Python's audit hook."""
        if self._busy or (event != "open" and event not in _CHANGES):
            return
        self._busy = True
        try:
            for path in _changed(event, arguments):
                self._judge(event, _resolved(event, path))
        finally:
            self._busy = False

    def _judge(self, event: str, path: str) -> None:
        # tempfile opens the folder itself where the system has files without names.
        in_temporary = os.path.join(path, "").startswith(self._temporary)
        if in_temporary or path.startswith(_SYSTEM):
            return
        if path.startswith(self._scratch):
            if event == "open" and not self._journal.called_by_script(_SAFE_WRITERS):
                self._journal.write("written", self._journal.lines(), file=os.path.basename(path))
            return
        in_cache = path.startswith(self._home) and not path.startswith(self._original)
        if in_cache or (_NEEDS.get(event) not in (None, os.path.exists(path))):
            return
        self._journal.write("refused", self._journal.lines(), file=path)
        raise PermissionError(
            errno.EACCES, "a dry run changes nothing outside of its copy of the folder", path
        )


def _resolved(event: str, path: str) -> str:
    """Resolve links in a path; of a link that is removed or renamed, only in its folder."""
    if event in ("open", "os.truncate", "os.chmod"):
        return os.path.realpath(path)
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(folder), name)


def _changed(event: str, arguments: tuple[Any, ...]) -> list[str]:
    """Return the paths that an event is about to change."""
    if event == "open":
        path, _, flags = arguments
        if not isinstance(flags, int) or not flags & _WRITING:
            return []
        paths = [path]
    else:
        paths = [arguments[position] for position in _CHANGES[event]]
    return [os.fsdecode(path) for path in paths if isinstance(path, str | bytes | os.PathLike)]


def watch_training(keras: ModuleType, journal: FactLog) -> None:
    """Patch Keras's classes, in a process that exists for one dry run.

    Args:
        keras: the module, imported by the script.
        journal: gets the facts.
    """
    hooks = _TrainingHooks(keras, journal)
    for name in ("fit", "evaluate", "train_on_batch", "compile"):
        replace_method(keras.Model, name, getattr(hooks, name))
    replace_method(keras.optimizers.Optimizer, "apply", hooks.apply)


def replace_method(owner: type, name: str, around: Callable[..., Any]) -> None:
    """Replace a method by `around(plain, self, ...)` in the class that defines it."""
    definer = next(each for each in owner.__mro__ if name in vars(each))
    plain = vars(definer)[name]

    @functools.wraps(plain)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return around(plain, self, *args, **kwargs)

    setattr(definer, name, method)


class _TrainingHooks:
    def __init__(self, keras: ModuleType, journal: FactLog) -> None:
        self._keras, self._journal = keras, journal
        self._training = False
        self._compiled: list[Any] = []

    def compile(self, plain: Callable[..., Any], model: Any, *args: Any, **kwargs: Any) -> Any:
        done = plain(model, *args, **kwargs)
        self._compiled.append(getattr(model, "optimizer", None))
        return done

    def fit(self, plain: Callable[..., Any], model: Any, *args: Any, **kwargs: Any) -> Any:
        given = _arguments(plain, model, args, kwargs)
        fact = {"method": "fit", **self._describe(given)}
        lines = self._journal.lines()
        self._record_callbacks(given["callbacks"])
        given["epochs"] = min(given["epochs"], given["initial_epoch"] + 1)
        for name in ("steps_per_epoch", "validation_steps"):
            given[name] = min(given[name] or _STEPS, _STEPS)
        if given["validation_data"] is None and not given["validation_split"]:
            given["validation_steps"] = None
        try:
            with self._inside():
                return plain(**given)
        finally:
            self._journal.write("fit", lines, **fact, model=_structure(model))

    def evaluate(self, plain: Callable[..., Any], model: Any, *args: Any, **kwargs: Any) -> Any:
        if self._training:
            return plain(model, *args, **kwargs)
        given = _arguments(plain, model, args, kwargs)
        given["steps"] = min(given["steps"] or _STEPS, _STEPS)
        return plain(**given)

    def train_on_batch(
        self, plain: Callable[..., Any], model: Any, *args: Any, **kwargs: Any
    ) -> Any:
        self._journal.write("trained", self._journal.lines())
        with self._inside():
            return plain(model, *args, **kwargs)

    def apply(self, plain: Callable[..., Any], optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        if not self._training:
            compiled = any(_contains(each, optimizer) for each in self._compiled)
            name = type(optimizer).__name__
            self._journal.write("applied", self._journal.lines(), name=name, compiled=compiled)
        return plain(optimizer, *args, **kwargs)

    @contextlib.contextmanager
    def _inside(self) -> Iterator[None]:
        before, self._training = self._training, True
        try:
            yield
        finally:
            self._training = before

    def _record_callbacks(self, callbacks: Any) -> None:
        listed = getattr(callbacks, "callbacks", None) or self._keras.tree.flatten(callbacks or [])
        plain = self._keras.callbacks.Callback
        for each in listed:
            owner = type(each)
            if owner.__module__.partition(".")[0] in _OURS:
                continue
            hooks = [
                name for name in _BATCH_HOOKS if getattr(owner, name) is not getattr(plain, name)
            ]
            if hooks:
                code = getattr(getattr(owner, hooks[0]), "__code__", None)
                where = []
                if code is not None and self._journal.is_own(code.co_filename):
                    where = [(code.co_filename, code.co_firstlineno)]
                self._journal.write("callback", where, name=owner.__name__, hooks=hooks)

    def _describe(self, given: dict[str, Any]) -> dict[str, Any]:
        """Describe the data of fit: their kind, a fingerprint, and if the order is unseeded."""
        held_out = given["validation_data"]
        parts = [given["x"], given["y"], given["sample_weight"]]
        parts += held_out if isinstance(held_out, tuple | list) else [held_out]
        return {
            "data": _kind(given["x"]),
            "fingerprint": [line for part in parts for line in _fingerprint(part)],
            "unseeded": _is_unseeded(given["x"]),
        }


def _arguments(
    plain: Callable[..., Any], model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    bound = inspect.signature(plain).bind(model, *args, **kwargs)
    bound.apply_defaults()
    given = dict(bound.arguments)
    given |= given.pop("kwargs", {})
    return given


def _kind(data: Any) -> str:
    return "generator" if inspect.isgenerator(data) else type(data).__name__


def _fingerprint(data: Any) -> list[str]:
    """Return checksums of arrays, also of those that a tf.data.Dataset was made from."""
    import tensorflow as tf

    from keras_candle.data.fingerprint import fingerprint
    from keras_candle.keras_private.data import dataset_arrays

    if data is None or inspect.isgenerator(data):
        return []
    if isinstance(data, tf.data.Dataset):
        arrays = [dataset_arrays(each) for each in _with_inputs(data)]
        return [line for each in arrays if each is not None for line in _fingerprint(each)]
    try:
        return fingerprint(data)
    except Exception:  # a PyDataset, a data loader or the like: the script itself continues
        return []


def _with_inputs(dataset: Any) -> list[Any]:
    """Return a tf.data.Dataset and all datasets that it is made from."""
    from keras_candle.keras_private.data import dataset_inputs

    further = [each for source in dataset_inputs(dataset) for each in _with_inputs(source)]
    return [dataset, *further]


def _is_unseeded(data: Any) -> bool:
    """Return whether data are a tf.data.Dataset whose order differs by rank."""
    import tensorflow as tf

    from keras_candle.data.tf_dataset import check_dataset, is_sharded_by_user
    from keras_candle.errors import DataError

    if not isinstance(data, tf.data.Dataset) or is_sharded_by_user(data):
        return False
    try:
        check_dataset(data)
    except DataError:
        return True
    return False


def _structure(model: Any) -> list[str]:
    return [f"{each.dtype} {tuple(each.shape)}" for each in model.weights]


def _contains(outer: Any, optimizer: Any) -> bool:
    while outer is not None and outer is not optimizer:
        outer = getattr(outer, "inner_optimizer", None)
    return outer is not None

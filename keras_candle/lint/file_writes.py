"""Findings about files that every rank writes, makes or removes, where one rank should."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from keras_candle.lint.finding import ERROR, WARNING, Finding, FindingKind
from keras_candle.lint.names import Module, argument, constant
from keras_candle.lint.script import Script

_GUARD = "if candle.is_root(): "
WRITE = FindingKind(
    "write-on-every-rank",
    WARNING,
    "{call} writes a file on every rank",
    "all ranks write the same file at the same time; what is left may be torn",
    _GUARD + "{call}",
)
MAKE = FindingKind(
    "folder-made-twice",
    ERROR,
    "{call} makes a folder on every rank",
    "the second rank finds it there and fails with FileExistsError",
    "{remedy}",
    by_auto=True,
)
MAKE_CHECKED = FindingKind(
    "folder-made-in-a-race",
    WARNING,
    "{call} makes a folder if it is not there, on every rank",
    "two ranks can both find it missing, and the slower one fails with FileExistsError",
    "{remedy}",
    by_auto=True,
)
REMOVE = FindingKind(
    "removed-on-every-rank",
    ERROR,
    "{call} removes files on every rank",
    "a slow rank removes files that faster ranks have written anew, or fails as none is left",
    _GUARD + "{call}",
    by_auto=True,
)
KINDS = (WRITE, MAKE, MAKE_CHECKED, REMOVE)

# full name -> the position and name of the file argument
_WRITERS = {
    "numpy.save": (0, "file"),
    "numpy.savez": (0, "file"),
    "numpy.savez_compressed": (0, "file"),
    "numpy.savetxt": (0, "fname"),
    "joblib.dump": (1, "filename"),
    "torch.save": (1, "f"),
    "matplotlib.pyplot.savefig": (0, "fname"),
    "matplotlib.pyplot.imsave": (0, "fname"),
    "keras.utils.plot_model": (1, "to_file"),
    "keras.utils.save_img": (0, "path"),
    "keras.models.save_model": (1, "filepath"),
    "keras.saving.save_model": (1, "filepath"),
    "tensorflow.summary.create_file_writer": (0, "logdir"),
    "tensorflow.io.write_file": (0, "filename"),
    "tensorflow.io.TFRecordWriter": (0, "path"),
    "tensorflow.saved_model.save": (1, "export_dir"),
    "logging.FileHandler": (0, "filename"),
    "logging.basicConfig": (None, "filename"),
    "cv2.imwrite": (0, "filename"),
    "imageio.imwrite": (0, "uri"),
    "urllib.request.urlretrieve": (1, "filename"),
}
# What makes an object -> its methods that write
_SAVERS = {
    "tensorflow.train.CheckpointManager": ("save",),
    "tensorflow.train.Checkpoint": ("save", "write"),
    "keras.utils.array_to_img": ("save",),
    "keras.preprocessing.image.array_to_img": ("save",),
    "PIL.Image.fromarray": ("save",),
    "PIL.Image.new": ("save",),
    "PIL.Image.open": ("save",),
    "tarfile.open": ("extractall", "extract"),
    "zipfile.ZipFile": ("extractall", "extract"),
}
_SAVES = {method for methods in _SAVERS.values() for method in methods}
_METHODS = (
    *("savefig", "to_csv", "to_parquet", "to_pickle", "to_excel", "to_feather", "tofile"),
    *("write_text", "write_bytes"),
)
# Functions and methods that open files past Python, where --auto does not see them.
_NATIVE = (
    *("cv2.imwrite", "tensorflow.io.TFRecordWriter", "tensorflow.io.write_file", "torch.save"),
    *("tensorflow.saved_model.save", "to_feather", "to_parquet"),
)
_OPENERS = (
    *("open", "io.open", "gzip.open", "bz2.open", "codecs.open", "zipfile.ZipFile", "h5py.File"),
    *("tensorflow.io.gfile.GFile", "tarfile.open"),
)
_MAKERS = ("os.mkdir", "os.makedirs")
_REMOVERS = ("shutil.rmtree", "os.remove", "os.unlink", "os.rmdir", "tensorflow.io.gfile.rmtree")
_OWN_PLACES = (
    *("tempfile", "tempdir", "temp_dir", "getpid", "uuid"),
    *("io.BytesIO", "io.StringIO", "os.devnull", "sys.stdout", "sys.stderr"),
)


def find(script: Script) -> Iterator[Finding]:
    """Yield the findings of `KINDS` in a script."""
    for module, call, name in script.calls():
        if script.auto and not name.endswith(_NATIVE):
            continue
        place = _written(call, name) or _saved(script, module, call)
        if place is not None and not _is_safe(script, module, call, place):
            yield WRITE.at(module.path, call.lineno, call=_shown(call))
        elif name in _MAKERS or _is_mkdir(call):
            yield from _makes(script, module, call, name)
        elif name in _REMOVERS and call.args:
            ignores = constant(argument(call, "ignore_errors", 1)) is True
            only_files = name in ("os.remove", "os.unlink") and _is_checked(module, call)
            if not _is_safe(script, module, call, call.args[0]) and not (ignores or only_files):
                yield REMOVE.at(module.path, call.lineno, call=_shown(call))


def _written(call: ast.Call, name: str) -> ast.expr | None:
    """Return the file argument of a call that writes a file, else None."""
    if name in _WRITERS:
        position, word = _WRITERS[name]
        return argument(call, word, position)
    if name in _OPENERS:
        mode = constant(argument(call, "mode", 1))
        writes = isinstance(mode, str) and not set("wax+").isdisjoint(mode)
        return argument(call, "file", 0) if writes else None
    if isinstance(call.func, ast.Attribute):
        if call.func.attr in ("write_text", "write_bytes"):
            return call.func.value
        if call.func.attr in _METHODS and call.args:
            return call.args[0]
        if call.func.attr == "open" and isinstance(
            mode := constant(argument(call, "mode", 0)), str
        ):
            return call.func.value if mode[:1] in ("w", "a", "x") and len(mode) <= 3 else None
    return None


def _saved(script: Script, module: Module, call: ast.Call) -> ast.expr | None:
    """Return the file argument of an object's method that writes, else the object."""
    function = call.func
    if not isinstance(function, ast.Attribute) or function.attr not in _SAVES:
        return None
    for origin in script.objects.origins(module, function.value):
        made = origin.node.func if isinstance(origin.node, ast.Call) else origin.node
        if not origin.path and function.attr in _SAVERS.get(origin.module.dotted(made), ()):
            return call.args[0] if call.args else function.value
    return None


def _makes(script: Script, module: Module, call: ast.Call, name: str) -> Iterator[Finding]:
    place = call.args[0] if name in _MAKERS and call.args else call.func
    if constant(argument(call, "exist_ok", 2 if name == "os.makedirs" else None)) is True:
        return
    if _is_safe(script, module, call, place) or _catches(module, call):
        return
    kind = MAKE_CHECKED if _is_checked(module, call) else MAKE
    remedy = _with_exist_ok(call, name)
    yield kind.at(module.path, call.lineno, call=_shown(call), remedy=remedy)


def _with_exist_ok(call: ast.Call, name: str) -> str:
    given = ", ".join(map(ast.unparse, [*call.args, *call.keywords]))
    function = "os.makedirs" if name == "os.mkdir" else ast.unparse(call.func)
    return f"{function}({', '.join(filter(None, (given, 'exist_ok=True')))})"


def _is_mkdir(call: ast.Call) -> bool:
    """Return whether a call is Path(...).mkdir(), judged by its arguments."""
    words = {keyword.arg for keyword in call.keywords}
    known = words <= {"mode", "parents", "exist_ok"}
    named = isinstance(call.func, ast.Attribute) and call.func.attr == "mkdir"
    return named and not call.args and known


def _is_safe(script: Script, module: Module, call: ast.Call, place: ast.AST) -> bool:
    """Return whether one rank alone runs the call, or each rank has its own path."""
    if script.ranks.guard(module, call) is not None or script.ranks.depends_on_rank(module, place):
        return True
    own = module.find(place, lambda each: _names_own_place(module, each), depth=3)
    return own is not None


def _names_own_place(module: Module, node: ast.AST) -> bool:
    if not isinstance(node, ast.Attribute | ast.Name):
        return False
    name = module.dotted(node)
    return any(each in name for each in _OWN_PLACES)


def _is_checked(module: Module, call: ast.Call) -> bool:
    """Return whether the call is inside a test such as `if not os.path.exists(folder):`."""
    words = ("exists", "isdir", "is_dir", "isfile", "is_file")
    return any(
        isinstance(each, ast.If) and any(word in ast.unparse(each.test) for word in words)
        for each in module.ancestors(call)
    )


def _catches(module: Module, call: ast.Call) -> bool:
    return any(
        (isinstance(each, ast.Try) and bool(each.handlers))
        or (isinstance(each, ast.With) and "suppress" in ast.unparse(each.items[0]))
        for each in module.ancestors(call)
    )


def _shown(call: ast.Call) -> str:
    text = ast.unparse(call)
    return text if len(text) <= 70 else f"{ast.unparse(call.func)}(...)"

"""Whether a program names CandleCallback, in its script or in what that imports beside it."""

from __future__ import annotations

import pytest

from keras_candle.launch.resumable import may_resume

NAMES = "from keras_candle import CandleCallback"


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"train.py": NAMES}, True),
        ({"train.py": "import numpy as np"}, False),
        ({"train.py": "import numpy", "unused.py": NAMES}, False),
        ({"train.py": "import numpy as np, lib.deep", "lib/deep.py": NAMES}, True),
        ({"train.py": "def f():\n    from lib import (deep)", "lib/deep.py": NAMES}, True),
        (
            {
                "train.py": "from lib import main",
                "lib/__init__.py": "from .inner import main",
                "lib/inner.py": "from . import train\nimport train",
                "lib/train.py": NAMES,
            },
            True,
        ),
        ({"train.py": "import lib", "lib.py": "import train"}, False),
    ],
)
def test_the_script_and_its_modules(tmp_path, monkeypatch, files, found):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    assert may_resume([str(tmp_path / "train.py"), "--x"]) is found
    assert may_resume(["-m", "train"]) is found


def test_a_package_runs_its_main(tmp_path, monkeypatch):
    package = tmp_path / "of_stops" / "inner"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").write_text("raise ValueError('imported')")
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(NAMES)
    monkeypatch.chdir(tmp_path)
    assert may_resume(["-m", "of_stops.inner"])
    assert not may_resume(["-m", "of_stops.nowhere"])
    assert not may_resume(["nowhere.py"])


def test_a_source_of_any_bytes(tmp_path):
    (tmp_path / "train.py").write_bytes(b"\xff\0import .\nfrom . import x" + NAMES.encode())
    assert may_resume([str(tmp_path / "train.py")])

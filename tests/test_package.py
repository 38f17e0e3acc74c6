"""The package as a user meets it."""

from __future__ import annotations

import difflib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import keras_candle as candle

ROOT = Path(__file__).parent.parent
HEAVY = "('keras', 'tensorflow', 'numpy', 'mpi4py', 'horovod')"


def test_importing_it_imports_nothing_heavy():
    program = f"import sys, keras_candle; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"


def test_decorating_imports_no_framework():
    program = f"""
import sys
import keras_candle as candle

@candle.scalable(batch="global", learning_rate_scaling="sqrt", engine="single")
def build_model():
    pass

candle.rank()
print([m for m in {HEAVY} if m in sys.modules and m != "numpy"])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", candle.__all__)
def test_every_public_name_is_there(name):
    assert getattr(candle, name) is not None
    assert name in dir(candle)


def test_every_name_that_code_and_documents_tell_a_user_is_there():
    files = [*(ROOT / "keras_candle").rglob("*.py"), *(ROOT / "docs").glob("*.md")]
    told = {
        name
        for file in [*files, ROOT / "README.md"]
        for name in re.findall(r"(?<![\w.])candle\.([A-Z]\w+)", file.read_text())
    }
    assert {"CandleCallback", "CandleTuner", "Checkpoint", "Tracker"} <= told
    assert told <= set(candle.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'scalabel'"):
        _ = candle.scalabel


def test_the_readme_changes_at_most_three_lines():
    before, after = re.findall(r"<!-- (?:before|after) -->\n```python\n(.*?)```", _readme(), re.S)
    changed = [
        line
        for line in difflib.ndiff(before.splitlines(), after.splitlines())
        if line[:2] == "+ " and line[2:].strip()
    ]
    assert 1 <= len(changed) <= 3


def test_the_readme_scripts_run(ranks, tmp_path):
    """Both of them, the second on two ranks."""
    scripts = re.findall(r"<!-- (before|after) -->\n```python\n(.*?)```", _readme(), re.S)
    for name, script in scripts:
        path = tmp_path / f"{name}.py"
        path.write_text(script)
        candle_run = [sys.executable, "-m", "keras_candle.launch.cli", "run", "-np"]
        start = [*candle_run, "2"] if name == "after" else [sys.executable]
        done = subprocess.run(
            [*start, path.name],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "digits.keras").exists()


def _readme():
    return (ROOT / "README.md").read_text()

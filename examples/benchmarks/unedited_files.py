"""How many unedited scripts that write files are right on N ranks, with and without the overlay.

    python -m examples.benchmarks.unedited_files -np 4 --times 3

Each script runs on one rank, and then several times on N ranks with `candle run --auto`: once as
it is, and once without the overlay that gives each further rank files of its own. A script is right
when it succeeds every time and leaves the same files as on one rank.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from examples.benchmarks.claims import claim

ROOT = Path(__file__).parents[2]
# What follows the imports in scripts as people write them.
IMPORTS = "import glob, json, logging, os, pathlib, pickle, shutil, tempfile, time, zipfile\n"
WAYS = {
    "make a folder for results": """
os.mkdir("results")
pathlib.Path("results/done.txt").write_text("done")
""",
    "start from an empty folder": """
if os.path.exists("old"):
    shutil.rmtree("old")
os.makedirs("old/plots")
pathlib.Path("old/plots/a.txt").write_text("a")
""",
    "write JSON and read it": """
for epoch in range(20):
    with open("history.json", "w") as file:
        json.dump([0.5] * 5000, file)
    with open("history.json") as file:
        assert len(json.load(file)) == 5000
""",
    "append to a table": """
with open("old/results.csv", "a") as file:
    file.write("0.5,0.9\\n")
""",
    "a log file": """
logging.basicConfig(filename="train.log", format="%(message)s", level=logging.INFO)
for epoch in range(50):
    logging.info("epoch %d", epoch)
assert len(open("train.log").readlines()) == 50
""",
    "NumPy arrays": """
import numpy as np
for epoch in range(20):
    np.savez("arrays.npz", x=np.arange(50_000))
    with np.load("arrays.npz") as arrays:
        assert arrays["x"].sum() == 1249975000
""",
    "pickle": """
for epoch in range(20):
    with open("state.pkl", "wb") as file:
        pickle.dump(list(range(20_000)), file)
    with open("state.pkl", "rb") as file:
        assert len(pickle.load(file)) == 20_000
""",
    "HDF5": """
import h5py, numpy as np
for epoch in range(20):
    with h5py.File("data.h5", "w") as file:
        file["x"] = np.arange(10_000)
    with h5py.File("data.h5") as file:
        assert file["x"][-1] == 9_999
""",
    "write and rename": """
for epoch in range(20):
    pathlib.Path("state.tmp").write_text("x" * 10_000)
    os.replace("state.tmp", "state.txt")
    assert len(pathlib.Path("state.txt").read_text()) == 10_000
""",
    "keep the data that were made": """
if not os.path.exists("cache.txt"):
    with open("cache.txt", "w") as file:
        for row in range(20_000):
            file.write(f"{row}\\n")
assert len(open("cache.txt").readlines()) == 20_000
""",
    "the next free folder": """
number = 1
while os.path.exists(f"run-{number}"):
    number += 1
os.makedirs(f"run-{number}")
pathlib.Path(f"run-{number}/args.txt").write_text("none")
""",
    "remove what an earlier run left": """
for name in os.listdir("old"):
    os.remove(os.path.join("old", name))
pathlib.Path("old/new.txt").write_text("new")
assert os.listdir("old") == ["new.txt"]
""",
    "the newest three of many": """
for epoch in range(10):
    pathlib.Path(f"epoch-{epoch}.txt").write_text("x" * 1000)
    for name in sorted(glob.glob("epoch-*.txt"))[:-3]:
        os.remove(name)
assert sorted(glob.glob("epoch-*.txt")) == ["epoch-7.txt", "epoch-8.txt", "epoch-9.txt"]
""",
    "an archive of the results": """
os.makedirs("results", exist_ok=True)
for number in range(5):
    pathlib.Path(f"results/{number}.txt").write_text("x" * 1000)
with zipfile.ZipFile("results.zip", "w") as archive:
    for name in sorted(os.listdir("results")):
        archive.write(f"results/{name}")
shutil.rmtree("results")
with zipfile.ZipFile("results.zip") as archive:
    assert len(archive.namelist()) == 5
pathlib.Path("results.zip").unlink()
""",
    "a marker that must not exist": """
with open("done.txt", "x") as file:
    file.write("done")
""",
    "move into place": """
os.makedirs("staging", exist_ok=True)
pathlib.Path("staging/model.txt").write_text("x" * 10_000)
shutil.move("staging/model.txt", "model.txt")
os.rmdir("staging")
assert len(pathlib.Path("model.txt").read_text()) == 10_000
""",
    "a temporary folder": """
with tempfile.TemporaryDirectory() as folder:
    pathlib.Path(folder, "a.txt").write_text("a")
    assert os.listdir(folder) == ["a.txt"]
""",
}
# Of the corpus, those that write files by more than Keras's own functions.
CORPUS = ("convnet", "own_callbacks", "save_and_load")


def prepare() -> None:
    """In a rank, before `keras_candle.auto`: leave its overlay out."""
    from keras_candle import auto

    auto.write_only_on_root = lambda **_: None


def run(script: Path, size: int, folder: Path, *, overlay: bool) -> bool:
    """Whether a script succeeds in a new folder."""
    (folder / "old").mkdir(parents=True, exist_ok=True)
    (folder / "old/results.csv").write_text("loss,accuracy\n")
    command = [sys.executable, "-m", "keras_candle.launch.cli", "run", "--auto", "-np", str(size)]
    variables = {**os.environ, "KERAS_CANDLE_AUTO_SEED": "1", "PYTHONPATH": str(ROOT)}
    if not overlay:
        variables["KERAS_CANDLE_PREPARE"] = "examples.benchmarks.unedited_files"
    with open(folder.with_suffix(".txt"), "w") as output:
        done = subprocess.run(
            [*command, str(script)],
            cwd=folder,
            env=variables,
            stdout=output,
            stderr=output,
            check=False,
        )
    return done.returncode == 0


def files_of(folder: Path, *, content: bool) -> Mapping[str, bytes] | int:
    """The files of a folder; their number alone where their content differs by rank count."""
    files = [each for each in folder.rglob("*") if each.is_file()]
    if not content:
        return len(files)
    return {str(each.relative_to(folder)): each.read_bytes() for each in files}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-np", type=int, default=4)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--corpus", action="store_true", help="trainings of tests/corpus too")
    options = parser.parse_args()
    right = {True: 0, False: 0}
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        scripts = {}
        for number, (way, body) in enumerate(WAYS.items()):
            scripts[way] = place / f"{number}.py"
            scripts[way].write_text(IMPORTS + body)
        if options.corpus:
            scripts.update({each: ROOT / "tests/corpus" / f"{each}.py" for each in CORPUS})
        for way, script in scripts.items():
            content = way in WAYS
            alone = place / f"{script.stem}-alone"
            if not run(script, 1, alone, overlay=False):
                sys.exit(f"{way} fails on one rank:\n{alone.with_suffix('.txt').read_text()}")
            expected = files_of(alone, content=content)
            row = []
            for overlay in (True, False):
                good = 0
                for time in range(options.times):
                    folder = place / f"{script.stem}-{overlay}-{time}"
                    good += run(script, options.np, folder, overlay=overlay) and (
                        files_of(folder, content=content) == expected
                    )
                right[overlay] += good == options.times
                row.append(f"{good} of {options.times}")
            print(f"{way}: {row[0]} with the overlay, {row[1]} without", flush=True)
    claim(
        f"scripts that are right every time, of {len(scripts)}",
        right[True],
        peer=("without the overlay", right[False]),
        at_least=1.5,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What each rank of the corpus's job runs: the scripts in turn, as `python script.py` would.

One job for all of them, since starting TensorFlow takes longer than most of them.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import zlib
from pathlib import Path

HERE = Path(__file__).parent / "corpus"


def checksum(model) -> int:
    total = 0
    for variable in [*model.weights, *getattr(getattr(model, "optimizer", None), "variables", ())]:
        total = zlib.crc32(variable.numpy().tobytes(), total)
    return total


def main(names: list[str]) -> None:
    import keras

    from keras_candle import engine as engines

    start = Path.cwd()
    for number, name in enumerate(names):
        keras.utils.clear_session()
        if engines.start().size == 1:
            keras.utils.set_random_seed(number)
        os.chdir(start / name)
        sys.stdout.flush()
        sys.stderr.write(f"{name}\n")
        found = runpy.run_path(str(HERE / f"{name}.py"), run_name="__main__")
        models = found.get("models") or [found["model"]]
        everyone = engines.current().gather_objects(
            (found["score"], [checksum(model) for model in models])
        )
        os.chdir(start)
        if engines.current().is_root:
            facts = {"score": float(found["score"]), "equal": len(set(map(repr, everyone))) == 1}
            Path(f"{name}.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main(sys.argv[1:])

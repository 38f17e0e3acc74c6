"""A training on hosts that have nothing but a network between them."""

from __future__ import annotations

import json

from tests.cluster import network as networks

TRAINING = """
import json, os, subprocess, sys
import keras, numpy
import keras_candle as candle
from keras_candle import engine

def listening():
    "This process's listening sockets at the rendezvous' port."
    told = subprocess.run(["ss", "-tlnHp"], capture_output=True, text=True, check=True).stdout
    port = os.environ["HOROVOD_GLOO_RENDEZVOUS_PORT"]
    rows = [row.split() for row in told.splitlines() if f"pid={os.getpid()}," in row]
    return [row[3] for row in rows if row[3].endswith(f":{port}")]

seen = {}
if sys.argv[1] == "horovod":
    import horovod.tensorflow as library
    init = library.init
    def while_it_is_needed():
        seen["during"] = listening()
        init()
    library.init = while_it_is_needed
engine.start()
if sys.argv[1] == "horovod":
    seen["after"] = listening()
keras.utils.set_random_seed(1)
x = numpy.linspace(-1, 1, 48).reshape(16, 3)
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
model = candle.scale(model)
model.fit(x, x[:, :1], batch_size=4, epochs=2, verbose=0)
if candle.is_root():
    seen["weights"] = [weight.tolist() for weight in model.get_weights()]
    print(json.dumps(seen))
"""


def test_both_engines(tmp_path):
    (tmp_path / "training.py").write_text(TRAINING)
    told = {}
    with networks.connected(2) as network:
        for engine in ("mpi", "horovod"):
            command = ("candle", "run", "-np", "2", "--hosts", "node1,node2", "--engine", engine)
            done = network.run(*command, "training.py", engine, cwd=tmp_path, timeout_s=100)
            assert done.returncode == 0, done.stderr
            told[engine] = json.loads(done.stdout)
    assert told["mpi"]["weights"] == told["horovod"]["weights"]
    # Horovod's rendezvous has no authentication: one address, and only while the ranks meet.
    (address,) = told["horovod"]["during"]
    assert address.startswith("10.88.0.1:")
    assert told["horovod"]["after"] == []

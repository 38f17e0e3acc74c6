"""Libraries that distribute a script by themselves, and what `candle run --auto` does with each.

`auto` acts on them in the ranks; `lint` names them before the run.
"""

from __future__ import annotations

# Members of tf.distribute. Where one rank has one device, the first are equivalent to TensorFlow's
# default strategy, which replaces them; the workers of the others are no replicas of the script.
REPLACED_STRATEGIES = (
    "MirroredStrategy",
    "MultiWorkerMirroredStrategy",
    "OneDeviceStrategy",
    "experimental.CentralStorageStrategy",
    "experimental.MultiWorkerMirroredStrategy",
)
REFUSED_STRATEGIES = (
    "ParameterServerStrategy",
    "TPUStrategy",
    "experimental.ParameterServerStrategy",
    "experimental.TPUStrategy",
)
# Modules whose init() a script must not call: it divides its data and learning rate by itself.
HOROVOD_MODULES = (
    *("horovod.tensorflow", "horovod.tensorflow.keras", "horovod.keras", "horovod.torch"),
)

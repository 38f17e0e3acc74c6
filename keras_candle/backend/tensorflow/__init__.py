"""The TensorFlow backend."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from keras_candle.backend.base import Backend, own_device
from keras_candle.backend.tensorflow import collectives, datasets, gradients, steps
from keras_candle.engine.base import Engine
from keras_candle.errors import EngineError


class TensorFlowBackend(Backend):
    """Steps that TensorFlow traces, with collectives of mpi4py or Horovod in their graphs."""

    name = "tensorflow"
    jit_has_collectives = False

    def check(self, model: Any) -> None:
        if model.distribute_strategy.num_replicas_in_sync > 1:
            raise EngineError(
                "The model was built inside a tf.distribute strategy, which would divide the work "
                "a second time. Build it outside of the strategy: keras_candle divides the work."
            )

    def pin(self, engine: Engine) -> None:
        # Where the launcher gave each rank its own GPU (`srun --gpus-per-task=1`), nothing changes.
        gpus = tf.config.list_physical_devices("GPU")
        if (engine.size == 1 and engine.local_size == 1) or not gpus:
            return
        mine = own_device(gpus, engine.local_rank)
        try:
            tf.config.set_visible_devices(mine, "GPU")
            for gpu in mine:
                tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError as cause:
            raise EngineError(
                "TensorFlow initialized the GPUs before the ranks could divide them. Call "
                "candle.engine.start() at the top of the script, before any tensor is made."
            ) from cause

    def gpu_capability(self) -> tuple[int, int] | None:
        gpus = tf.config.get_visible_devices("GPU")
        if not gpus:
            return None
        details = tf.config.experimental.get_device_details(gpus[0])
        capability: tuple[int, int] = details.get("compute_capability", (0, 0))
        return capability

    def eager(self) -> Any:
        return tf.init_scope()

    global_seed = staticmethod(datasets.global_seed)
    sum_in_step = staticmethod(collectives.sum_in_step)
    sum_differentiably = staticmethod(collectives.sum_differentiably)
    gather_rows = staticmethod(collectives.gather_rows)
    weigh = staticmethod(gradients.weigh)
    is_sparse = staticmethod(gradients.is_sparse)
    to_dense = staticmethod(gradients.to_dense)
    average_sparse = staticmethod(gradients.average_sparse)
    weighing_row_losses = staticmethod(gradients.weighing_row_losses)
    output_rank = staticmethod(steps.output_rank)
    trace_step = staticmethod(steps.trace_step)
    split_step = staticmethod(steps.split_step)
    checksums = staticmethod(steps.checksums)
    rows_of = staticmethod(datasets.rows_of)
    own_shard = staticmethod(datasets.own_shard)
    divide = staticmethod(datasets.divide)
    array_datasets = staticmethod(datasets.array_datasets)
    batches_of = staticmethod(datasets.batches_of)
    dataset_of_length = staticmethod(datasets.dataset_of_length)
    endless_shards = staticmethod(datasets.endless_shards)
    divided_batches = staticmethod(datasets.divided_batches)
    assigned_batches = staticmethod(datasets.assigned_batches)
    generated_shards = staticmethod(datasets.generated_shards)
    every_nth = staticmethod(datasets.every_nth)

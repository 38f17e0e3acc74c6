"""Who gets which rows: each rank's shard of arrays, tf.data, PyDatasets and iterators."""

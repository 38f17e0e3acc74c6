"""Data sharding: each rank's shard of arrays, tf.data, PyDatasets and iterators."""

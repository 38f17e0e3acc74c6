"""Why N ranks may differ from one although nothing is wrong, and what makes them comparable."""

from __future__ import annotations

# kind of fact -> (why the runs differ, what to do for an exact comparison)
EXPLANATIONS: dict[str, tuple[str, str]] = {
    "random": (
        "{what} drew at random in training, and each rank draws numbers of its own",
        "set its rate to 0, as candle verify --exact does for dropout and noise",
    ),
    "batch_normalization": (
        "{what} normalised each rank's rows by their own mean and variance",
        "@candle.scalable(sync_batch_norm=True), or candle verify --exact",
    ),
    "local_state": (
        "{what} changed a state of its own in training, which each rank computes from its rows",
        "make these weights constant for this comparison",
    ),
    "compression": ("the gradients were rounded to 16 bits: {what}", "leave compression out"),
    "own_part": (
        "{what}, so that the ranks' batches together need not be those of one rank",
        "let fit divide the data: shard=True and no sharding by hand",
    ),
    "earlier": ("it follows another one: {what}", "see there"),
}

# kind of fact -> a remark for one who looks for the cause
REMARKS: dict[str, str] = {
    "train_step": "{what} is not Keras's own: look there first for what depends on the batch",
    "mask": "a mask reaches the loss at {what}: a loss of the model's own has to count the values",
    "reduced_precision": "the model computes in {what}, which rounds more: see --tolerance",
}

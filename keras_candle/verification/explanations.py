"""Known causes of differences between N ranks and one, with the change that avoids each."""

from __future__ import annotations

# kind of fact -> (why the runs differ, what to do for an exact comparison)
EXPLANATIONS: dict[str, tuple[str, str]] = {
    "random": (
        "{what} drew at random in training, and each rank draws its own numbers",
        "set its rate to 0, as candle verify --exact does for dropout and noise",
    ),
    "batch_normalization": (
        "{what} normalised each rank's rows by their own mean and variance",
        "@candle.scalable(sync_batch_norm=True), or candle verify --exact",
    ),
    "local_state": (
        "{what} changed its own state in training, which each rank computes from its rows",
        "make these weights constant for this comparison",
    ),
    "compression": ("the gradients were rounded to 16 bits: {what}", "leave compression out"),
    "own_part": (
        "{what}, so that the ranks' batches together need not be those of one rank",
        "let fit divide the data: shard=True and no sharding by hand",
    ),
    "earlier": ("it follows an explained training: {what}", "see there"),
}

# kind of fact -> a hint where to look for the cause
HINTS: dict[str, str] = {
    "train_step": "{what} is not Keras's own: check first whether it depends on the batch",
    "mask": "a mask reaches the loss at {what}: a loss of the model's own must count the values",
    "reduced_precision": "the model computes in {what}, which rounds more: see --tolerance",
}

"""Infer from a metric's name whether smaller or larger is better."""

from __future__ import annotations

import re

_MORE = (
    *("acc", "accuracy", "auc", "precision", "recall", "sensitivity", "specificity", "iou", "io_u"),
    *("f1", "f1_score", "fbeta", "fbeta_score", "f_score", "fmeasure", "f_measure", "dice"),
    *("dice_score", "dice_coefficient", "jaccard", "r2", "r2_score", "r_squared", "correlation"),
    *("pearson", "spearman", "kappa", "mcc", "similarity", "true_positives", "true_negatives"),
    *("precision_at_recall", "recall_at_precision", "sensitivity_at_specificity"),
    *("specificity_at_sensitivity", "bleu", "rouge", "psnr", "ssim", "ndcg", "mrr"),
)
_LESS = (
    *("loss", "error", "mse", "mae", "mape", "msle", "rmse", "nll", "crossentropy"),
    *("cross_entropy", "entropy", "ce", "bce", "divergence", "kld", "poisson", "hinge", "logcosh"),
    *("log_cosh", "perplexity", "distance", "brier", "brier_score", "wer", "cer", "fid"),
    *("false_positives", "false_negatives", "max_violation"),
)
_DIRECTIONS = {**dict.fromkeys(_MORE, "max"), **dict.fromkeys(_LESS, "min")}


def direction_of(name: str) -> str | None:
    """Infer whether a metric is to be minimised or maximised.

    Args:
        name: the name in an epoch's logs: possibly with `val_`, an output's name in front, or the
            number that Keras appends to a second metric of a name.

    Returns:
        `"min"`, `"max"`, or None for an unknown name.

    Example:
        >>> direction_of("val_head_precision_1"), direction_of("rmse"), direction_of("spread")
        ('max', 'min', None)
    """
    words = plain_name(name).lower().split("_")
    # The longest known ending: "false_positives" is not "positives" of an output "false".
    endings = ("_".join(words[start:]) for start in range(len(words)))
    return next((_DIRECTIONS[each] for each in endings if each in _DIRECTIONS), None)


def plain_name(name: str) -> str:
    """Return a metric's name without `val_` and without a trailing number.

    Example:
        >>> plain_name("val_auc_2")
        'auc'
    """
    return re.sub(r"_\d+$", "", name.removeprefix("val_"))

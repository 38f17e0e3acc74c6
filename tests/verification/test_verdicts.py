"""Programs with known causes: the verdict and the named cause of `candle verify` on 2 ranks."""

from __future__ import annotations

import pytest

from tests.verification.verdicts import verdict_of

DROPS, NORMALISES = "Dropout 'drop' drew at random", "BatchNormalization 'norm' normalised"
PAIRS = "the loss of Contrastive.train_step depends on several rows of the batch at once"

TABLE = [
    # Faultless.
    ("plain", "EQUAL", ["within the tolerance"], []),
    ("functional_with_weights", "EQUAL", [], []),
    ("synchronized_batch_normalization", "EQUAL", [], []),
    ("compiled_pairs", "EQUAL", [], []),
    ("gathered_contrastive", "EQUAL", [], []),
    ("own_step", "EQUAL", [], []),
    # Each rank draws its own numbers.
    ("dropout", "EXPLAINED", [DROPS, "--exact, which sets the strength"], ["rate"]),
    ("gaussian_noise", "EXPLAINED", ["GaussianNoise 'noise' drew"], ["rate"]),
    ("augmentation", "EXPLAINED", ["RandomTranslation 'shifted' drew"], ["rate", "strength"]),
    ("seeded_vae", "EXPLAINED", ["SeededSampling 'sampling' drew"], ["rate", "train_step"]),
    # A draw without a seed generator.
    (
        "vae",
        "EXPLAINED",
        ["Sampling 'sampling' by RandomStandardNormal drew without a seed generator"],
        ["rate", "VAE.train_step", "loss of"],
    ),
    ("constant_vae", "EXPLAINED", ["ConstantSampling 'sampling' by StatelessRandom"], ["loss of"]),
    ("global_vae", "EXPLAINED", ["'sampling'", "from Keras's global generator"], ["loss of"]),
    # N ranks compute something else.
    ("batch_normalization", "DIFFERENT", [NORMALISES, "sync_batch_norm=True"], ["loss of"]),
    ("dropout_and_batch_normalization", "DIFFERENT", [NORMALISES, DROPS], ["loss of"]),
    (
        "own_step_with_batch_normalization",
        "DIFFERENT",
        [NORMALISES],
        ["loss of", "OwnStep.train_step"],
    ),
    ("contrastive", "DIFFERENT", [PAIRS, "candle.gather_rows"], ["drew", "normalised"]),
    ("contrastive_with_dropout", "DIFFERENT", [PAIRS, DROPS], ["normalised"]),
    ("contrastive_with_batch_normalization", "DIFFERENT", [PAIRS, NORMALISES], ["drew"]),
    ("added_pairs", "DIFFERENT", ["the loss of ContrastiveLayer 'pairs' depends"], ["train_step"]),
    ("summed", "DIFFERENT", ["the loss of Summed.train_step adds up the rows"], ["pairs"]),
    ("batch_statistics", "DIFFERENT", ["Centred 'centred' computes a row"], ["loss of"]),
    ("time_major", "DIFFERENT", ["TimeMajor 'over_time' computes a row"], ["loss of"]),
    (
        "wrong_gradient",
        "DIFFERENT",
        ["last/kernel differs by", "WrongStep.train_step is not"],
        ["loss of"],
    ),
    # A batch that ranks cannot divide.
    ("graph", "NOT DIVISIBLE", ["GraphConvolution 'graph'", "the first axis"], ["Graph execution"]),
    ("whole_graphs", "EQUAL", [], []),
]


@pytest.mark.parametrize(
    ("name", "word", "named", "not_named"), TABLE, ids=[name for name, *_ in TABLE]
)
def test_the_verdict_names_the_cause(ranks, tmp_path, name, word, named, not_named):
    verdict = verdict_of(ranks, name, tmp_path)
    told = "\n".join(verdict.sentences)
    assert verdict.word == word, told
    assert [each for each in named if each not in told] == [], told
    assert [each for each in not_named if each in told] == []
    assert verdict.exit_code == (word not in ("EQUAL", "EXPLAINED"))


@pytest.mark.parametrize("name", ["vae", "seeded_vae", "dropout_and_batch_normalization"])
def test_exact_leaves_draws_out(ranks, tmp_path, name):
    verdict = verdict_of(ranks, name, tmp_path, exact=True)
    assert verdict.word == "EQUAL", verdict.sentences

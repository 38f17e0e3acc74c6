"""The laws of --auto that need TensorFlow: one job, since starting it takes longer than they do."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
SENTENCES = (
    "is scaled to 2 ranks",
    "a custom training loop applies gradients",
    "runs without XLA",
    "MirroredStrategy is replaced by the default strategy",
)


def test_the_laws(candle):
    command = ("run", "--auto", "-np", "2", "--engine", "mpi", "-m", "tests.auto.laws")
    done = candle(*command, timeout_s=150, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, f"after {done.stdout}: {done.stderr[-3000:]}"
    assert done.stdout.endswith("all laws hold\n")
    for sentence in SENTENCES:
        assert done.stderr.count(sentence) == 1, sentence

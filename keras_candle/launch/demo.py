"""`candle demo`: train real models on real data on 1 rank and on 2, and compare."""

import argparse
import dataclasses
import importlib.util
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from keras_candle.errors import LaunchError
from keras_candle.launch.job_launcher import Job, JobLauncher, write_to_stderr

DATASETS = ("digits", "breast_cancer")
ENGINES = ("mpi", "horovod")
PROGRAM = ("-m", "keras_candle.demo")
_TIMEOUT_S = 600.0


@dataclasses.dataclass(frozen=True)
class DemoTraining:
    """The result of one training of the demo, as its root measured it.

    Args:
        size: ranks.
        accuracy: on data held back from training, 0 to 1.
        samples_per_s: throughput of all ranks together.
        weights_equal: whether every rank ended with the same weights, bit for bit.
    """

    size: int
    accuracy: float
    samples_per_s: float
    weights_equal: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `candle demo`."""
    parser.add_argument(
        "--engine", choices=ENGINES, help="only this one; both, where installed, by default"
    )
    parser.add_argument("--dataset", choices=DATASETS, help="only this one; both by default")


def run(options: argparse.Namespace) -> int:
    """Train on 1 and 2 ranks and print the comparison.

    Args:
        options: as `add_arguments` describes them.

    Returns:
        0 only when every training succeeded and all ranks' weights were equal.

    Raises:
        LaunchError: a package that the demo needs is not installed.
    """
    if importlib.util.find_spec("sklearn") is None:
        raise LaunchError(
            "The demo trains on scikit-learn's data, and scikit-learn is not installed. "
            "Install it: pip install 'keras-candle[demo]'"
        )
    engines = _engines(options.engine)
    datasets = (options.dataset,) if options.dataset else DATASETS
    print(HEAD, flush=True)
    with tempfile.TemporaryDirectory() as runs:
        all_equal = _compare(engines, datasets, Path(runs))
        print(
            "\nEvery rank ended with the same weights."
            if all_equal
            else "\nA training failed, or the ranks' weights differ: see the rows above, "
            "and run `candle doctor`."
        )
        report(Path(runs))
    return 0 if all_equal else 1


def _compare(engines: Sequence[str], datasets: Sequence[str], runs: Path) -> bool:
    # On one rank no engine is needed, so one measurement serves for all engines.
    alone = train(datasets, "single", 1, runs)
    all_equal = True
    for engine in engines:
        together = train(datasets, engine, 2, runs)
        for dataset in datasets:
            both = (alone.get(dataset), together.get(dataset))
            print(row(dataset, engine, *both), flush=True)
            all_equal &= all(each is not None and each.weights_equal for each in both)
    return all_equal


def report(runs: Path) -> None:
    """Write the report of the trainings and print its path.

    Args:
        runs: the folder of their run directories.
    """
    from keras_candle.report import write_report

    found = sorted(each for each in runs.iterdir() if (each / "journal.jsonl").is_file())
    if found:
        page = Path(tempfile.mkdtemp(prefix="candle-demo-"), "report.html")
        print(f"Their curves, speed and environment: {write_report(found, page)[0]}")


def _engines(asked: str | None) -> tuple[str, ...]:
    if importlib.util.find_spec("horovod") is not None:
        return (asked,) if asked else ENGINES
    if asked == "horovod":
        raise LaunchError("--engine horovod needs Horovod. Build it: candle build-horovod")
    print("Horovod is left out: it is not installed. Build it: candle build-horovod\n", flush=True)
    return ("mpi",)


def train(
    datasets: Sequence[str], engine: str, size: int, runs: Path | None = None
) -> dict[str, DemoTraining]:
    """Train on each data set in turn, in one job: starting a job takes longer than a training.

    Args:
        datasets: of DATASETS.
        engine: one of ENGINES, or "single" for one rank.
        size: number of ranks.
        runs: the folder for run directories; None makes none.

    Returns:
        Root's result for each data set; empty when the job failed, with its stderr passed on.
    """
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as printed:
        result = Path(folder) / "result.json"
        program = (*PROGRAM, "--dataset", *datasets, "--engine", engine)
        variables = {"TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2")}
        arguments = (*program, "--json", str(result))
        if runs is not None:
            arguments += ("--runs", str(runs))
        job = Job(size, arguments, engine=engine, variables=variables)
        stderr: list[bytes] = []
        exit_code = JobLauncher(job, stderr.append).run(printed.fileno(), _TIMEOUT_S)
        if exit_code != 0 or not result.is_file():
            # Only on failure: TensorFlow's own messages would get between the rows.
            write_to_stderr(b"".join(stderr))
            return {}
        results = json.loads(result.read_text())
    return {
        each["dataset"]: DemoTraining(
            size=int(each["size"]),
            accuracy=float(each["accuracy"]),
            samples_per_s=float(each["samples_per_s"]),
            weights_equal=bool(each["weights_equal"]),
        )
        for each in results
    }


HEAD = (
    f"{'dataset':<14}{'engine':<9}{'accuracy on 1, 2 ranks':<24}"
    f"{'samples/s on 1, 2 ranks':<30}weights equal"
)


def row(dataset: str, engine: str, one: DemoTraining | None, two: DemoTraining | None) -> str:
    """Format one line of the comparison.

    Args:
        dataset: its name.
        engine: its name.
        one: the training on 1 rank, None if it failed.
        two: the training on 2 ranks, None if it failed.

    Returns:
        The line, its columns under those of HEAD.

    Example:
        >>> t = DemoTraining(1, 0.97, 1000.0, True), DemoTraining(2, 0.98, 1500.0, True)
        >>> row("digits", "mpi", *t)
        'digits        mpi      0.970, 0.980            1000, 1500 (x 1.50)           yes'
    """
    if one is None or two is None:
        failed = "1 rank" if one is None else "2 ranks"
        return f"{dataset:<14}{engine:<9}failed on {failed}"
    accuracy = f"{one.accuracy:.3f}, {two.accuracy:.3f}"
    ratio = two.samples_per_s / one.samples_per_s
    speed = f"{one.samples_per_s:.0f}, {two.samples_per_s:.0f} (x {ratio:.2f})"
    equal = "yes" if one.weights_equal and two.weights_equal else "NO"
    return f"{dataset:<14}{engine:<9}{accuracy:<24}{speed:<30}{equal}"

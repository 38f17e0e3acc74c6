"""`candle status`: the states of submitted jobs, by their names or run directories."""

import argparse
import difflib
import getpass
import hashlib
import os
import re
import socket
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_candle.cluster.job_folder import JOBS, JobFolder
from keras_candle.cluster.schedulers import ANSWER_WITHIN_S
from keras_candle.cluster.status import (
    ASK_EVERY_S,
    QUEUES,
    Answer,
    Queue,
    SchedulerView,
    Status,
    has_no_end,
    statuses,
    unknown,
)
from keras_candle.errors import LaunchError
from keras_candle.launch.horovod_cache import cache_folder
from keras_candle.run_directory import RunDirectory


@dataclass(frozen=True)
class FoundJob:
    """A job, found by its name or by a run directory.

    Attributes:
        folder: the job's.
        element: of its array, where a run directory belongs to one; else None.
    """

    folder: JobFolder
    element: int | None = None

    @property
    def name(self) -> str:
        """The job's name."""
        return self.folder.path.name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `candle status`."""
    parser.add_argument(
        "jobs",
        nargs="*",
        metavar="JOB",
        help=f"a job's name or folder, or a run directory; all jobs in ./{JOBS} by default",
    )


def run(options: argparse.Namespace) -> int:
    """Print a line for each job, and for each element of an array that is named.

    Args:
        options: as `add_arguments` describes them.

    Returns:
        0.

    Raises:
        LaunchError: there is no job of that name.
    """
    found: list[FoundJob | Path] = [find(each) for each in options.jobs]
    if not options.jobs:
        found = [FoundJob(JobFolder(path)) for path in job_folders(Path.cwd())]
    if not found:
        print(f"no jobs in {Path.cwd() / JOBS}: candle submit makes one")
        return 0
    jobs = [each for each in found if isinstance(each, FoundJob)]
    answers = ask([each for each in jobs if each.folder.facts().get("scheduler") in QUEUES])
    rows: list[tuple[str, ...]] = []
    for each in found:
        if isinstance(each, FoundJob):
            asked = answers.get(each.folder.facts().get("scheduler"))
            rows += _rows(each, asked, bool(options.jobs))
        else:
            rows.append((str(each), "-", *_of_journal(each)))
    print("\n".join(_table([("JOB", "ID", "STATE", ""), *rows])))
    return 0


def find(given: str, directory: Path | None = None) -> FoundJob | Path:
    """Find a job by its name, its folder or its run directory.

    Args:
        given: a job's name, its folder, or a run directory.
        directory: where the jobs' folders lie; the working directory by default.

    Returns:
        The job; or the path of a run directory that no submitted job has written.

    Raises:
        LaunchError: it is none of these; the nearest names are given.
    """
    home = (directory or Path.cwd()) / JOBS
    path = Path(given)
    for folder in (home / given, path):
        if (folder / "job.sh").exists() or "scheduler" in JobFolder(folder).facts():
            return FoundJob(JobFolder(folder.resolve()))
    run = RunDirectory(path)
    job = JobFolder(path).facts()  # the run directory's own job.json
    if "folder" in job:
        # A later job of the same name sets the folder aside, under its id.
        aside = f"{job['folder']}-{re.sub('[^A-Za-z0-9]+', '-', str(job.get('id')))}"
        for made in map(JobFolder, (Path(job["folder"]), Path(aside))):
            facts = made.facts()
            if job.get("id") in (facts.get("id"), *(facts.get("ids") or ())):
                return FoundJob(made, job.get("element"))
    if run.journal.exists() or run.checkpoints.is_dir():
        return path
    names = [each.name for each in job_folders(directory or Path.cwd())]
    near = difflib.get_close_matches(given, names, n=3, cutoff=0.5)
    known = f"did you mean {' or '.join(near)}?" if near else ", ".join(names) or "it has none"
    raise LaunchError(
        f"{given!r} is neither a job in {home} ({known}) nor a run directory. Name one of these, "
        "or call this where the job was submitted"
    )


def job_folders(directory: Path) -> list[Path]:
    """Return the folders of the jobs that were submitted in a directory, by their time."""
    found = [path for path in (directory / JOBS).glob("*") if (path / "job.sh").exists()]
    return sorted(found, key=lambda path: (JobFolder(path).facts().get("submitted_s") or 0.0, path))


def ask(
    jobs: Sequence[FoundJob],
    ask_every_s: float = ASK_EVERY_S,
    within_s: float = ANSWER_WITHIN_S,
) -> dict[str | None, tuple[Queue, Answer]]:
    """Ask each scheduler of some jobs once, at most every few seconds.

    Args:
        jobs: the jobs.
        ask_every_s: an answer is used for so long, by all calls of this user on this node.
        within_s: how long to wait for one.

    Returns:
        The schedulers by the names in job.json, with their answers.

    Raises:
        LaunchError: a job's scheduler is none that is known.
    """
    answers = {}
    for name in {each.folder.facts().get("scheduler") for each in jobs}:
        view = view_of(name, os.environ, ask_every_s, within_s)
        of_it = [each.folder for each in jobs if each.folder.facts().get("scheduler") == name]
        needed = [str(f.facts()["id"]) for f in of_it if f.facts().get("id") and has_no_end(f)]
        answers[name] = (view.queue, view.answer(needed))
    return answers


def view_of(
    name: str | None,
    environment: Mapping[str, str],
    ask_every_s: float = ASK_EVERY_S,
    within_s: float = ANSWER_WITHIN_S,
) -> SchedulerView:
    """Return the view of a scheduler whose answers all calls on this node share.

    Raises:
        LaunchError: it is none that is known.
    """
    if name not in QUEUES:
        raise LaunchError(
            f"job.json names the scheduler {name!r}; expected one of {', '.join(QUEUES)}"
        )
    # Two clusters may share a home directory.
    cluster = f"{socket.gethostname()} {environment.get('SLURM_CONF', '')}"
    digest = hashlib.blake2b(cluster.encode(), digest_size=6).hexdigest()
    cache = cache_folder(environment) / f"queue-{name}-{digest}.json"
    return SchedulerView(QUEUES[name], _user(), cache, ask_every_s, within_s)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container often has no name for it
        return str(os.getuid())


def _rows(
    job: FoundJob, asked: tuple[Queue, Answer] | None, in_full: bool
) -> list[tuple[str, ...]]:
    if asked is None:
        return [(job.name, "-", unknown("job.json").name, "it is damaged or names no scheduler")]
    found = statuses(job.folder, *asked)
    shown = str(job.folder.facts().get("id") or "-")
    if job.element is not None:
        found = [each for each in found if each.element == job.element]
    if len(found) == 1:
        return [(job.name, shown, *_described(job.folder, found[0]))]
    counts = Counter(each.state.name for each in found)
    rows: list[tuple[str, ...]] = [
        (job.name, shown, ", ".join(f"{number} {name}" for name, number in counts.items()), "")
    ]
    if in_full:
        rows += [(f"  {each.element}", "", *_described(job.folder, each)) for each in found]
    return rows


def _described(folder: JobFolder, status: Status) -> tuple[str, str]:
    starts = len(status.attempts)
    parts = [status.detail, f"{starts} starts" if starts > 1 else "", _progress(folder, status)]
    return status.state.name, "; ".join(filter(None, parts))


def _progress(folder: JobFolder, status: Status) -> str:
    """How far the newest of the job's runs has come, from its journal."""
    if not status.attempts or status.element is not None:
        return ""
    events = [_last_event(run) for run in folder.run_directories()[-1:]]
    return next((text for text in events if text), "")


def _last_event(run: Path) -> str:
    try:
        event = RunDirectory(run).events()[-1]
        ago_s = max(0.0, time.time() - event["time_s"])
    except (OSError, IndexError, TypeError):
        return ""
    return f"step {event['step']} of {run} {duration(ago_s)} ago" if "step" in event else ""


def _of_journal(run: Path) -> tuple[str, str]:
    """The state of a run that no submitted job has begun, from its journal alone."""
    names = {"end": "completed", "stop": "saved", "exit": "saved"}
    events = RunDirectory(run).events()
    last = str(events[-1].get("event")) if events else ""
    state = names.get(last, "running or killed") if events else "not begun"
    where = "not of a submitted job, so no scheduler was asked"
    return state, "; ".join(filter(None, (where, _last_event(run))))


def duration(seconds: float) -> str:
    """Format a duration with its largest unit.

    Example:
        >>> duration(50), duration(7300), duration(200000)
        ('50 s', '2 h', '2 days')
    """
    for unit, length_s in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length_s or (seconds >= length_s and unit != "days"):
            return f"{seconds / length_s:.0f} {unit}"
    return f"{seconds:.0f} s"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return [
        "  ".join([*(t.ljust(w) for t, w in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    ]

"""Job scripts: a pure function of what was asked for, for Slurm, PBS, LSF and Flux.

What a scheduler reads in a directive is checked beforehand and holds no shell's character. All else
is quoted for the shell.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from keras_candle.cluster.job_folder import JOBS
from keras_candle.errors import EXIT_RUN_AGAIN, LaunchError
from keras_candle.launcher_messages import ELEMENT, JOB, RESTARTS, STARTED_S

# For keras_candle.cluster.requeue: `candle run` was not called.
NOT_BEGUN = "not-begun"
REQUEUE_BY = ("command", "exit-code", "none")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@/+=-]*")
_WALLTIME = re.compile(r"(?:(\d+)-)?(\d+):([0-5]\d):([0-5]\d)")
_ARRAY = re.compile(r"([1-9]\d*)(?:%([1-9]\d*))?")


@dataclass(frozen=True)
class JobRequest:
    """What a job script is made of.

    Attributes:
        name: of the job and of its folder.
        directory: absolute path of the directory that the program runs in; the job is submitted
            from there.
        python: absolute path of the interpreter.
        program: the program's words, as `candle run` takes them.
        nodes: number of nodes.
        ranks_per_node: the most ranks on a node.
        ranks: of the whole job.
        gpus_per_rank: None asks for none.
        cores_per_rank: None leaves them to the scheduler.
        walltime_s: None leaves the limit to the queue.
        account: None for the user's default; likewise `queue`.
        queue_option: the option that names the queue, where it is not the scheduler's usual one.
        chunk: what PBS is asked for on each node, in place of cores and GPUs.
        whole_nodes: LSF is asked for nodes instead of slots.
        directives: the user's own, without the scheduler's prefix.
        environment: lines of shell that come before the program.
        array: number of elements; None for a single job.
        array_limit: how many of them run at once; None for no limit.
        requeue_by: of `REQUEUE_BY`.
        run_options: further options of `candle run`.
        staging: lines of shell that come last before the program; they may change `$python`,
            and define the function `unstage` that is called when the ranks have ended.
    """

    name: str
    directory: str
    python: str
    program: tuple[str, ...]
    nodes: int
    ranks_per_node: int
    ranks: int
    gpus_per_rank: int | None = None
    cores_per_rank: int | None = None
    walltime_s: int | None = None
    account: str | None = None
    queue: str | None = None
    queue_option: str | None = None
    chunk: str | None = None
    whole_nodes: bool = False
    directives: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    array: int | None = None
    array_limit: int | None = None
    requeue_by: str = "command"
    run_options: tuple[str, ...] = ()
    staging: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """The job's folder, below `directory`."""
        return f"{JOBS}/{self.name}"


@dataclass(frozen=True)
class BatchSystem:
    """How a scheduler takes jobs.

    Attributes:
        name: as in --scheduler.
        title: as people write it.
        prefix: of a directive in a script.
        directives: returns a job's directives.
        submit: the command that takes a job; the script's path is appended.
        own_state: words that print the job's state from inside, as `requeue`; may be empty.
        cancelled: finds in it that a user has ended the job by the scheduler's own command.
        submit_inside: the command that takes a job from inside another; `submit` where empty.
        own_id: the command that prints the id inside the job, where no variable has it.
        has_arrays: whether one job has many elements; else each element is a job.
        reads_stdin: whether it takes the script on its standard input instead.
        id_pattern: finds the job's id, its first group, in what `submit` prints.
        job_id: the variable that holds the id inside the job.
        element: shell expression of an element's number from 0, inside the job.
        requeue: words that requeue the job from inside, with its variables in braces; empty where
            there is no such command.
        submit_after: options that submit a job which waits for the end of another, {id}; empty
            where `requeue` is enough.
    """

    name: str
    title: str
    prefix: str
    directives: Callable[[JobRequest], list[str]]
    submit: tuple[str, ...]
    id_pattern: str
    job_id: str
    element: str
    requeue: tuple[str, ...]
    submit_after: str = ""
    own_state: tuple[str, ...] = ()
    cancelled: str = ""
    submit_inside: tuple[str, ...] = ()
    own_id: tuple[str, ...] = ()
    has_arrays: bool = True
    reads_stdin: bool = False


def _slurm(job: JobRequest) -> list[str]:
    log = "output.log" if job.array is None else "output-%a.log"
    lines = [
        f"--job-name={job.name}",
        f"--output={job.folder}/{log}",
        f"--nodes={job.nodes}",
        f"--ntasks-per-node={job.ranks_per_node}",
    ]
    if job.ranks != job.nodes * job.ranks_per_node:
        lines.append(f"--ntasks={job.ranks}")
    if job.cores_per_rank is not None:
        lines.append(f"--cpus-per-task={job.cores_per_rank}")
    if job.gpus_per_rank:
        # Not for each task: a rank sees all GPUs of its node and takes the one of its number.
        lines.append(f"--gpus-per-node={job.gpus_per_rank * job.ranks_per_node}")
    if job.walltime_s is not None:
        lines.append(f"--time={clock(job.walltime_s)}")
    if job.account is not None:
        lines.append(f"--account={job.account}")
    if job.queue is not None:
        lines.append(f"{job.queue_option or '--partition'}={job.queue}")
    if job.array is not None:
        lines.append(f"--array={_elements(job, 0)}")
    if job.requeue_by != "none":
        lines += ["--requeue", "--open-mode=append"]
    return lines


def _pbs(job: JobRequest) -> list[str]:
    per_node = f":mpiprocs={job.ranks_per_node}"
    if job.chunk is not None:
        per_node = f":{job.chunk}{per_node}"
    else:
        if job.cores_per_rank is not None:
            per_node += f":ncpus={job.cores_per_rank * job.ranks_per_node}"
        if job.gpus_per_rank:
            per_node += f":ngpus={job.gpus_per_rank * job.ranks_per_node}"
    lines = [f"-N {job.name}", f"-l select={job.nodes}{per_node}", "-l place=scatter"]
    # PBS copies its file there when the job has ended; the script itself writes output.log.
    lines += ["-j oe", f"-o {job.folder}/"]
    if job.walltime_s is not None:
        lines.append(f"-l walltime={clock(job.walltime_s, days=False)}")
    if job.account is not None:
        lines.append(f"-A {job.account}")
    if job.queue is not None:
        lines.append(f"{job.queue_option or '-q'} {job.queue}")
    if job.array is not None:
        lines.append(f"-J {_elements(job, 0)}")
    lines.append("-r n" if job.requeue_by == "none" else "-r y")
    return lines


def _lsf(job: JobRequest) -> list[str]:
    name = job.name if job.array is None else f'"{job.name}[1-{job.array}]{_limit(job)}"'
    lines = [f"-J {name}", f"-o {job.folder}/scheduler.log"]
    if job.whole_nodes:
        lines.append(f"-nnodes {job.nodes}")
    else:
        lines += [f"-n {job.ranks}", f'-R "span[ptile={job.ranks_per_node}]"']
        if job.cores_per_rank is not None:
            lines.append(f'-R "affinity[core({job.cores_per_rank})]"')
        if job.gpus_per_rank:
            lines.append(f'-gpu "num={job.gpus_per_rank * job.ranks_per_node}"')
    if job.walltime_s is not None:
        lines.append(f"-W {_minutes(job.walltime_s)}")
    if job.account is not None:
        lines.append(f"-P {job.account}")
    if job.queue is not None:
        lines.append(f"{job.queue_option or '-q'} {job.queue}")
    if job.requeue_by == "exit-code":
        lines.append(f'-Q "{EXIT_RUN_AGAIN}"')
    return lines


def _flux(job: JobRequest) -> list[str]:
    lines = [
        f"--job-name={job.name}",
        f"--output={job.folder}/scheduler.log",
        f"--nodes={job.nodes}",
        f"--nslots={job.nodes * job.ranks_per_node}",
    ]
    if job.cores_per_rank is not None:
        lines.append(f"--cores-per-slot={job.cores_per_rank}")
    if job.gpus_per_rank:
        lines.append(f"--gpus-per-slot={job.gpus_per_rank}")
    if job.walltime_s is not None:
        lines.append(f"--time-limit={job.walltime_s}s")
    if job.account is not None:
        lines.append(f"--bank={job.account}")
    if job.queue is not None:
        lines.append(f"{job.queue_option or '--queue'}={job.queue}")
    return lines


BATCH_SYSTEMS = {
    each.name: each
    for each in (
        BatchSystem(
            "slurm",
            "Slurm",
            "#SBATCH",
            _slurm,
            ("sbatch", "--parsable"),
            r"^(\d+)",
            "SLURM_JOB_ID",
            "$SLURM_ARRAY_TASK_ID",
            ("scontrol", "requeue", "{SLURM_JOB_ID}"),
            own_state=("scontrol", "--oneline", "show", "job", "{SLURM_JOB_ID}"),
            # Seen with 22.05: at the limit the reason is TimeLimit, in a preemption the state
            # stays RUNNING or there is a PreemptTime.
            cancelled=r"\A(?!.* PreemptTime=\d)(?=.* JobState=(?:COMPLETING|CANCELLED)\b)"
            r"(?=.* Reason=None\b)",
        ),
        BatchSystem(
            "pbs",
            "PBS",
            "#PBS",
            _pbs,
            ("qsub",),
            r"^(\d\S*)",
            "PBS_JOBID",
            "$PBS_ARRAY_INDEX",
            ("qrerun", "{PBS_JOBID}"),
            # On some sites qrerun is the operators' alone.
            submit_after="-W depend=afterany:{id}",
        ),
        BatchSystem(
            "lsf",
            "LSF",
            "#BSUB",
            _lsf,
            ("bsub",),
            r"Job <(\d+)>",
            "LSB_JOBID",
            "$((LSB_JOBINDEX - 1))",
            ("brequeue", "{LSB_JOBID}[{LSB_JOBINDEX}]"),
            reads_stdin=True,
        ),
        BatchSystem(
            "flux",
            "Flux",
            "#flux:",
            _flux,
            ("flux", "batch"),
            r"^(\S+)",
            "FLUX_JOB_ID",
            "$1",
            (),
            submit_after="--dependency=afterany:{id}",
            submit_inside=("flux", "--parent", "batch"),
            own_id=("flux", "getattr", "jobid"),
            own_state=("flux", "--parent", "job", "eventlog", "{own_id}"),
            cancelled=r'exception\b.*\btype="?cancel\b',
            has_arrays=False,
        ),
    )
}


def job_script(system: BatchSystem, job: JobRequest) -> str:
    """Return the script that runs a job.

    Args:
        system: the scheduler.
        job: checked, see `check`.

    Returns:
        Lines of bash that begin with the scheduler's directives.
    """
    directives = [f"{system.prefix} {line}" for line in (*system.directives(job), *job.directives)]
    # A script's name may begin with a dash, too.
    program = job.program if job.program[0] == "-m" else ("--", *job.program)
    parts = [
        "#!/bin/bash\n" + "\n".join(directives),
        _place(job),
        _element(system, job),
        _redirection(system, job),
        _prepared(job),
        _requeue_check(system, job),
        "\n".join(job.staging),
        _RUN.format(
            arguments=shlex.join(["-np", str(job.ranks), *job.run_options, *program]),
            unstage="unstage\n" if job.staging else "",
            job=JOB,
        ),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


# `wait` ends early when a signal arrives, while the ranks still save: it is called again. bash
# keeps the exit code of a child for which it has already waited. A child in the background ignores
# SIGINT, which LSF's bkill sends first.
_RUN = """\
child=
signalled=
pass_on() {{
    signalled=$1
    [ -z "$child" ] || kill -s "$1" "$child" 2>/dev/null || true
}}
trap 'pass_on TERM' TERM INT
trap 'pass_on USR1' USR1
trap 'pass_on USR2' USR2
"$python" -m keras_candle run {arguments} &
child=$!
# A signal that came before there was a child.
[ -z "$signalled" ] || kill -s "$signalled" "$child" 2>/dev/null || true
signalled=1
while [ -n "$signalled" ]; do
    signalled=
    code=0
    wait "$child" || code=$?
done
child=
{unstage}
"$python" -m keras_candle.cluster.requeue "${job}" "$code"
exit"""


def _place(job: JobRequest) -> str:
    directory = shlex.quote(job.directory)
    folder = shlex.quote(f"{job.directory.rstrip('/')}/{job.folder}")
    # What a `candle run` has set in the shell from which the job is submitted is not of this job.
    return (
        f"cd -- {directory} || exit 2\n"
        f"export {JOB}={folder}\n"
        f"unset {ELEMENT} {RESTARTS} {STARTED_S}"
    )


def _element(system: BatchSystem, job: JobRequest) -> str:
    return "" if job.array is None else f'export {ELEMENT}="{system.element}/{job.array}"'


def _redirection(system: BatchSystem, job: JobRequest) -> str:
    # The others show a job's output when it has ended, or overwrite it at the next start.
    if system.name == "slurm":
        return ""
    name = "output.log" if job.array is None else f"output-${{{ELEMENT}%%/*}}.log"
    return f'exec >>"${JOB}/{name}" 2>&1'


def _prepared(job: JobRequest) -> str:
    """The lines before the program; a job that is stopped meanwhile has begun nothing."""
    python = f"python={shlex.quote(job.python)}"
    if not job.environment:
        return python
    return "\n".join(
        (
            "stopped=",
            "trap stopped=1 TERM INT USR1 USR2",
            *job.environment,
            python,
            'if [ -n "$stopped" ]; then',
            f'    "$python" -m keras_candle.cluster.requeue "${JOB}" {EXIT_RUN_AGAIN} {NOT_BEGUN}',
            "    exit",
            "fi",
        )
    )


def _requeue_check(system: BatchSystem, job: JobRequest) -> str:
    if job.requeue_by != "command":
        return ""
    program = (system.requeue or system.submit)[0]
    return f"""\
if ! command -v {program} >/dev/null; then
    echo 'candle: the job is requeued by {program}, which is not on PATH here (in a container \
there often is none). Submit it with --requeue-by exit-code or --requeue-by none' >&2
    exit 2
fi"""


def check(system: BatchSystem, job: JobRequest) -> None:
    """Check what goes into directives, where no quoting would help.

    Raises:
        LaunchError: the job cannot be asked for like this.
    """
    if not _NAME.fullmatch(job.name):
        raise LaunchError(
            f"--name got {job.name!r}; expected at most 64 letters, digits, '.', '_' and '-', the "
            "first a letter or digit: schedulers and file systems take these"
        )
    words = {"account": job.account, "queue": job.queue, "chunk": job.chunk}
    for option, word in {**words, "queue-option": job.queue_option}.items():
        pattern = r"-[\w-]+" if option == "queue-option" else _WORD
        if word is not None and not re.fullmatch(pattern, word):
            raise LaunchError(f"{option} got {word!r}, which is no name that {system.title} takes")
    for directive in job.directives:
        _check_directive(system, directive)
    for line in job.environment:
        if "\0" in line:
            raise LaunchError(f"a line of the environment has a NUL character: {line!r}")
    most = job.nodes * job.ranks_per_node
    if job.ranks > most:
        raise LaunchError(
            f"{job.ranks} ranks do not fit on {_plural(job.nodes, 'node')} with "
            f"{_plural(job.ranks_per_node, 'rank')} each: that is {most}. Ask for more nodes or "
            "more ranks per node"
        )
    if system.name == "lsf" and (job.walltime_s or 0) % 60:
        raise LaunchError(
            f"LSF's limit has whole minutes, but walltime is {clock(job.walltime_s or 0)}. "
            f"Try {clock(-(-(job.walltime_s or 0) // 60) * 60)}"
        )
    if system.name == "pbs" and job.array == 1:
        raise LaunchError("PBS has no array of one element. Leave out --array 1")


def _check_directive(system: BatchSystem, directive: str) -> None:
    if any(ord(each) < 32 for each in directive):
        raise LaunchError(
            f"the directive {directive!r} has a newline or another control character: what follows "
            "it would be run by the shell. Give each directive on its own"
        )
    if not directive.startswith("-"):
        raise LaunchError(
            f"the directive {directive!r} does not begin with an option. Expected what follows "
            f"{system.prefix} in a script, for example {_EXAMPLES[system.name]!r}"
        )


_EXAMPLES = {
    "slurm": "--constraint=gpu",
    "pbs": "-l filesystems=home",
    "lsf": "-alloc_flags smt1",
    "flux": "--setattr=key=value",
}


def walltime_of(text: str) -> int:
    """Return the seconds of a walltime.

    Args:
        text: [days-]hours:minutes:seconds.

    Raises:
        LaunchError: it has another format, whose unit is not plain, or is zero.

    Example:
        >>> walltime_of("02:00:00"), walltime_of("1-00:00:30")
        (7200, 86430)
    """
    match = _WALLTIME.fullmatch(text)
    if match is None:
        raise LaunchError(
            f"walltime got {text!r}; expected hours:minutes:seconds, as 02:00:00 for two hours, "
            "01:30:00 for 90 minutes, 00:01:30 for 90 seconds, or days-hours:minutes:seconds"
        )
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if total == 0:
        raise LaunchError(f"walltime got {text!r}, but a job of no time trains nothing")
    return total


def array_of(text: str) -> tuple[int, int | None]:
    """Return an array's number of elements, and how many of them run at once.

    Args:
        text: "N" or "N%M".

    Raises:
        LaunchError: it has another format.

    Example:
        >>> array_of("6%2"), array_of("6")
        ((6, 2), (6, None))
    """
    match = _ARRAY.fullmatch(text)
    if match is None:
        raise LaunchError(
            f"--array got {text!r}; expected the number of elements, as 6, or with the number that "
            "run at once, as 6%2. Elements are counted from 0; both numbers are 1 or more"
        )
    return int(match[1]), int(match[2]) if match[2] else None


def clock(seconds: int, *, days: bool = True) -> str:
    """Format a duration as [days-]hours:minutes:seconds.

    Args:
        seconds: the duration.
        days: whether the format has days; else hours go on above 23.

    Example:
        >>> clock(90000), clock(90000, days=False)
        ('1-01:00:00', '25:00:00')
    """
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    day, hour = divmod(hours, 24) if days else (0, hours)
    return (f"{day}-" if day else "") + f"{hour:02d}:{minute:02d}:{second:02d}"


def _minutes(seconds: int) -> str:
    hours, minutes = divmod(seconds // 60, 60)
    return f"{hours}:{minutes:02d}"


def _elements(job: JobRequest, first: int) -> str:
    return f"{first}-{first + (job.array or 1) - 1}{_limit(job)}"


def _limit(job: JobRequest) -> str:
    return "" if job.array_limit is None else f"%{job.array_limit}"


def _plural(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def command_inside(
    words: Sequence[str], environment: Mapping[str, str], own_id: str = ""
) -> list[str]:
    """Return a command of a scheduler with the job, or the element, in which this process runs.

    Args:
        words: `requeue` or `own_state` of a `BatchSystem`.
        environment: variables of this process.
        own_id: the job's id where no variable has it.

    Raises:
        KeyError: the scheduler's variables are missing.
    """
    known = {**environment, "own_id": own_id}
    # LSF counts elements from 1; 0 is a job without elements.
    return [word.format_map(known).removesuffix("[0]") for word in words]

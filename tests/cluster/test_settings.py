"""Settings: where a value comes from, and what candle.toml may hold."""

import pytest

from keras_candle.cluster.job_script import BATCH_SYSTEMS, JobRequest, array_of, check, walltime_of
from keras_candle.cluster.settings import SETTINGS, profile, profiles, resolve_settings
from keras_candle.errors import LaunchError


def resolved(tmp_path, text="", **given):
    if text:
        (tmp_path / "candle.toml").write_text(text)
    settings = resolve_settings(given, tmp_path)
    return {name: (each.value, each.origin) for name, each in settings.items()}


def test_the_command_line_comes_before_the_file_before_the_profile(tmp_path):
    settings = resolved(tmp_path, 'system = "polaris"\nnodes = 4\nranks_per_node = 2', nodes=8)
    assert settings["nodes"] == (8, "command line")
    assert settings["ranks_per_node"] == (2, "candle.toml")
    assert settings["gpus_per_rank"] == (1, "profile polaris, untested")
    assert settings["max_restarts"] == (0, "default")
    assert settings["walltime"] == (None, "default")


def test_directives_and_environment_are_added_up(tmp_path):
    text = 'system = "perlmutter"\ndirectives = ["--a"]\nenvironment = ["module load b"]'
    settings = resolved(tmp_path, text, directives=("--c",))
    assert settings["directives"] == (
        ("--constraint=gpu", "--a", "--c"),
        "profile perlmutter, untested + candle.toml + command line",
    )
    assert settings["environment"] == (("module load b",), "candle.toml")


@pytest.mark.parametrize("system", profiles())
def test_a_profile_makes_a_job(system, tmp_path):
    content = profile(system)
    assert content.pop("untested")
    assert set(content) <= set(SETTINGS)
    values = {name: each[0] for name, each in resolved(tmp_path, system=system).items()}
    job = JobRequest(
        name="first",
        directory="/home/me",
        python="python",
        program=("train.py",),
        ranks=values["ranks_per_node"],
        **{name: values[name] for name in ("nodes", "ranks_per_node", "chunk", "queue_option")},
        directives=values["directives"],
    )
    check(BATCH_SYSTEMS[values["scheduler"]], job)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ndoes = 2", "unknown key 'ndoes' (did you mean 'nodes'?)"),
        ("untested = true", "unknown key 'untested'"),
        ('nodes = "2"', "nodes got '2'; expected nodes = 2"),
        ("nodes = true", "nodes got True; expected nodes = 2"),
        ("walltime = 02:00:00", 'walltime got datetime.time(2, 0); expected walltime = "02:00:00"'),
        ('directives = "--a"', "expected directives = ["),
        ("environment = [1]", "expected environment = ["),
        ("nodes = 0", "nodes (candle.toml) got 0; expected 1 or more"),
        ("ranks = -1", "ranks (candle.toml) got -1"),
        ('scheduler = "slrum"', "got 'slrum' (did you mean 'slurm'?); expected one of slurm, pbs"),
        ('requeue_by = "hand"', "expected one of command, exit-code, none"),
        ('system = "fronteir"', "no profile of the system 'fronteir' (did you mean 'frontier'?)"),
        ("nodes = ", "is not valid TOML"),
    ],
)
def test_a_wrong_file_is_refused(text, expected, tmp_path):
    with pytest.raises(LaunchError) as refusal:
        resolved(tmp_path, text)
    assert expected in str(refusal.value)


@pytest.mark.parametrize("content", [None, b"\xff"])
def test_a_file_that_cannot_be_read_is_refused(content, tmp_path):
    path = tmp_path / "candle.toml"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(LaunchError, match="cannot be read"):
        resolved(tmp_path)


@pytest.mark.parametrize("text", ["1h", "90", "2:00", "01:60:00", "-1:00:00", "1:00:00:00", ""])
def test_a_walltime_of_unclear_unit_is_refused(text):
    with pytest.raises(LaunchError, match="expected hours:minutes:seconds, as 02:00:00 for two"):
        walltime_of(text)


@pytest.mark.parametrize("text", ["00:00:00", "0-0:00:00"])
def test_a_walltime_of_zero_is_refused(text):
    with pytest.raises(LaunchError, match="a job of no time"):
        walltime_of(text)


@pytest.mark.parametrize("text", ["0-5%0", "0-5", "0", "6%0", "6%", "%2", "1,3", "6%2%1", "-6"])
def test_an_array_that_is_no_number_of_elements_is_refused(text):
    with pytest.raises(LaunchError, match="expected the number of elements, as 6"):
        array_of(text)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"name": "it's"}, "--name got"),
        ({"name": 'a"b'}, "--name got"),
        ({"name": "a\nb"}, "--name got 'a\\nb'"),
        ({"name": "-J"}, "--name got '-J'"),
        ({"name": "../a"}, "--name got"),
        ({"name": ""}, "--name got ''"),
        ({"account": "a b"}, "account got 'a b'"),
        ({"account": "a\n#SBATCH"}, "account got"),
        ({"queue": "-p"}, "queue got '-p'"),
        ({"queue": "q", "queue_option": "qos"}, "queue-option got 'qos'"),
        ({"directives": ("--a\nrm -r x",)}, "has a newline"),
        ({"directives": ("--a\r",)}, "has a newline or another control character"),
        ({"directives": ("constraint=gpu",)}, "does not begin with an option"),
        ({"environment": ("a\0b",)}, "NUL"),
        ({"ranks": 9, "nodes": 2, "ranks_per_node": 4}, "9 ranks do not fit on 2 nodes with 4"),
    ],
)
@pytest.mark.parametrize("system", BATCH_SYSTEMS.values(), ids=BATCH_SYSTEMS)
def test_what_no_quoting_would_help_is_refused(system, changed, expected):
    given = {"name": "first", "nodes": 1, "ranks_per_node": 1, "ranks": 1, **changed}
    job = JobRequest(directory="/", python="python", program=("train.py",), **given)
    with pytest.raises(LaunchError) as refusal:
        check(system, job)
    assert expected in str(refusal.value)


def test_limits_of_one_scheduler():
    given = {"name": "first", "nodes": 1, "ranks_per_node": 1, "ranks": 1}
    job = JobRequest(directory="/", python="p", program=("a",), walltime_s=90, array=1, **given)
    with pytest.raises(LaunchError, match=r"whole minutes, but .* 00:01:30\. Try 00:02:00"):
        check(BATCH_SYSTEMS["lsf"], job)
    with pytest.raises(LaunchError, match="no array of one element"):
        check(BATCH_SYSTEMS["pbs"], job)
    check(BATCH_SYSTEMS["slurm"], job)

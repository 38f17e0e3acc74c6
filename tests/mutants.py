"""Faults put into a copy of the package one at a time, and the tests that must notice each.

    python -m tests.mutants [WORD]...

runs all of them, or those whose description or file contains one of the words. A mutant that no
test notices survives: either a test is missing, or the code that it breaks is of no use.
tests/test_mutants.py keeps the table in step with the code.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
NEEDED = ("examples", "keras_candle", "tests", "README.md", "pyproject.toml")
# Of pytest.
PASSED, FAILED = 0, 1


class Mutant(NamedTuple):
    """A fault.

    Attributes:
        what: that goes wrong.
        file: of keras_candle.
        text: stands exactly once in the file.
        replacement: of the text.
        tests: at least one of these has to fail, as pytest names them, relative to tests/.
    """

    what: str
    file: str
    text: str
    replacement: str
    tests: tuple[str, ...]

    def applied(self, source: str) -> str:
        """The file's source with the fault."""
        if source.count(self.text) != 1:
            raise ValueError(f"{self.file} does not have {self.text!r} once: change the mutant")
        return source.replace(self.text, self.replacement)


EQUIVALENCE = "training/test_equivalence.py::"
RESUME = "resume/test_resume.py::"
INTERRUPTED = f"{RESUME}test_one_rank_interrupted_twice"

MUTANTS = (
    # Gradients and losses.
    Mutant(
        "gradients are weighed by ranks and not by rows",
        "training/gradients.py",
        'ops.cast(rows, "float32") / (size * step.rows_expected)',
        "ops.convert_to_tensor(1.0 / size)",
        (f"{EQUIVALENCE}test_every_optimizer[SGD]",),
    ),
    Mutant(
        "a sparse gradient is not divided by the ranks' total",
        "training/gradients.py",
        "                weight / total,\n",
        "                weight,\n",
        (f"{EQUIVALENCE}test_the_other_pairs_of_engine_and_size[mpi-2]",),
    ),
    Mutant(
        "a sparse gradient becomes dense where the optimizer takes each slice by itself",
        "training/gradients.py",
        "    return all(\n        leaf.gradient_accumulation_steps\n",
        "    return all(\n        leaf\n",
        (f"{EQUIVALENCE}test_embeddings[Adam-mpi-3]",),
    ),
    Mutant(
        "16-bit compression does not compress",
        "training/gradients.py",
        'small = compression == "fp16"',
        "small = False",
        ("training/test_shared_state.py::test_compressed_gradients_are_nearly_those[mpi-3]",),
    ),
    Mutant(
        "accumulated gradients are the ranks' sum and not their mean",
        "training/gradients.py",
        "each / self._engine.size for each",
        "each for each",
        (f"{EQUIVALENCE}test_every_optimizer[accumulation]",),
    ),
    Mutant(
        "ranks that accumulate do not agree on whether gradients are finite",
        "training/gradients.py",
        "return keras.ops.equal(ranks, 0.0)",
        "return finite",
        (f"{EQUIVALENCE}test_an_infinity_on_one_rank_is_skipped_by_all[2-mpi-3]",),
    ),
    Mutant(
        "an empty rank's share of a mask counts",
        "training/losses.py",
        'ops.where(self._step.rows > 0, ops.cast(own, "float32"), 0.0)',
        'ops.cast(own, "float32")',
        ("training/test_models.py::test_losses_that_divide_by_something_else_than_rows",),
    ),
    Mutant(
        "synchronized batch normalisation sends its gradient back without the rows",
        "backend/tensorflow/collectives.py",
        "[upstream * part]",
        "[upstream]",
        (
            "training/test_shared_state.py::test_synchronized_batch_normalization_equals_one_rank[by0-mpi-3]",
        ),
    ),
    # Learning rates.
    Mutant(
        "warm-up is ignored",
        "training/learning_rate.py",
        "progress = steps / self.warmup_steps",
        "progress = steps * 0.0 + 1.0",
        ("training/test_learning_rate.py::test_warm_up_goes_from_the_base_to_the_scaled_rate",),
    ),
    Mutant(
        "schedules advance by one for a step of all ranks",
        "training/learning_rate.py",
        "position = iterations * self.advance",
        "position = iterations",
        ("training/test_learning_rate.py::test_schedules_advance_by_size_steps",),
    ),
    Mutant(
        "weight decay takes the base rate",
        "training/learning_rate.py",
        "lambda: scaled(base_rate())",
        "base_rate",
        ("training/test_learning_rate.py::test_weight_decay_uses_the_scaled_rate",),
    ),
    # What ranks share, and what each has of its own.
    Mutant(
        "what layers hold beside weights is not compared",
        "training/layer_attributes.py",
        "        if len({each for each, _ in summaries}) == 1:\n",
        "        if summaries:\n",
        ("training/test_local_state.py::test_constants_that_a_layer_draws_are_the_roots",),
    ),
    Mutant(
        "batch normalisation's statistics are not held while a step is tried on shards",
        "verification/step_probe.py",
        "        replace_moments(layer, lambda *_, layer=layer: (layer.moving_mean, "
        "layer.moving_variance))\n",
        "        pass\n",
        (
            "verification/test_verdicts.py::test_the_verdict_names_the_cause"
            "[own_step_with_batch_normalization]",
        ),
    ),
    Mutant(
        "all ranks draw the same dropout masks",
        "training/shared_state.py",
        "rank * _SEED_STRIDE",
        "0 * _SEED_STRIDE",
        ("training/test_shared_state.py::test_each_rank_drops_out_something_else",),
    ),
    Mutant(
        "ranks keep the weights that they began with",
        "training/shared_state.py",
        "variable.assign(engine.broadcast(value))",
        "engine.broadcast(value)",
        ("training/test_shared_state.py::test_ranks_that_begin_differently_end_alike[mpi-3]",),
    ),
    Mutant(
        "moving statistics stay each rank's own",
        "training/replica.py",
        "reduce_state(self.model, self.engine, waiting)",
        "()",
        (
            "training/test_shared_state.py::test_local_batch_normalization_ends_with_equal_statistics",
        ),
    ),
    Mutant(
        "the guard never compares",
        "training/divergence.py",
        "self._engine.differ(own).any()",
        "False",
        ("training/test_callbacks.py::test_the_guard_names_what_differs",),
    ),
    Mutant(
        "a stop that one rank wants is that rank's alone",
        "engine/consensus.py",
        'bool(self._engine.allreduce(self.requested or self.agreed, "max"))',
        "self.requested",
        ("training/test_callbacks.py::test_a_callback_that_only_one_rank_has_stops_all",),
    ),
    Mutant(
        "every rank writes the callbacks' files",
        "training/user_callbacks.py",
        "engine.is_root or not only_writes(each)",
        "True",
        ("training/test_shared_state.py::test_only_the_root_writes_and_all_see_the_same_logs",),
    ),
    # Data and metrics.
    Mutant(
        "the last batch of arrays that is not full is dropped",
        "data/batch_assignment.py",
        "if rest else [full]",
        "if rest < 0 else [full]",
        ("data/test_data.py::test_arrays_in_global_batches[3]",),
    ),
    Mutant(
        "a dataset's last round of batches is dropped",
        "data/batch_assignment.py",
        "            return math.ceil(self.batches / self.size)",
        "            return self.batches // self.size",
        ("data/test_data.py::test_datasets[known-2]",),
    ),
    Mutant(
        "rows that keep an empty rank in step are counted by its metrics",
        "training/train_step.py",
        "keras.ops.where(shard.rows > 0, variable, value)",
        "variable",
        ("data/test_data.py::test_evaluate_is_exact[arrays-3]",),
    ),
    Mutant(
        "metrics are those of each rank's own rows",
        "training/metrics.py",
        "zip(variables, whole, strict=True)",
        "zip(variables, own, strict=True)",
        ("training/test_metrics.py::test_every_built_in_metric[binary-False]",),
    ),
    # Checkpoints and resuming.
    Mutant(
        "another process draws another order of rows",
        "data/array_shard.py",
        "dict(state) if state else _choose_seed(engine)",
        "_choose_seed(engine)",
        (f"{RESUME}test_the_process_that_goes_on_may_have_another_seed",),
    ),
    Mutant(
        "rows taken of arrays are counted one too few",
        "data/array_shard.py",
        "taken = min(before + steps * self._whole_batch_size, self.rows)",
        "taken = max(min(before + steps * self._whole_batch_size, self.rows) - 1, 0)",
        (f"{INTERRUPTED}[arrays-rich]",),
    ),
    Mutant(
        "batches taken of a dataset are counted one too many",
        "data/batch_assignment.py",
        "taken = rounds * self.size",
        "taken = rounds * self.size + 1",
        (f"{RESUME}test_ranks_interrupted_twice[dataset-rich-mpi-3]",),
    ),
    Mutant(
        "metrics of an epoch that was interrupted begin anew",
        "callback/fit_hooks.py",
        "self._resumption.restore_metrics()",
        "pass",
        (f"{INTERRUPTED}[arrays-rich]",),
    ),
    Mutant(
        "EarlyStopping forgets its best value",
        "keras_private/callbacks.py",
        '"EarlyStopping": ("wait", "best", ',
        '"EarlyStopping": ("wait", ',
        ("callback/test_candle_callback.py::test_what_was_best_before_is_the_best_after",),
    ),
    Mutant(
        "a resumed training begins with epoch 0",
        "resume/restore.py",
        'call["epochs"] if over else state["epoch"]',
        'call["epochs"] if over else 0',
        (f"{INTERRUPTED}[arrays-rich]",),
    ),
    Mutant(
        "moving statistics that ranks had of their own are lost",
        "resume/model_state.py",
        "local[place].assign(value)",
        "pass",
        (f"{RESUME}test_ranks_interrupted_twice[arrays-rich-mpi-3]",),
    ),
    Mutant(
        "on another number of ranks each counts what all had seen",
        "resume/model_state.py",
        'if engine.is_root or reduction != "sum":',
        "if True:",
        (
            "resume/test_other_ranks.py::test_each_rank_keeps_its_batch_size_and_no_row_is_lost[3-2]",
        ),
    ),
    Mutant(
        "a schedule on another number of ranks begins anew",
        "resume/restore.py",
        "scale.offset = position - iterations * scale.advance",
        "scale.offset = 0",
        ("resume/test_other_ranks.py::test_a_schedule_goes_on_where_it_was",),
    ),
    Mutant(
        "the files of each rank are not looked at for damage",
        "checkpoints/manifest.py",
        "if path.is_file() and path.name != NAME",
        'if path.is_file() and path.name != NAME and not path.name.startswith("rank-")',
        ("checkpoints/test_manifest.py",),
    ),
    Mutant(
        "a file's bytes outside of its tensors are not looked at",
        "checkpoints/manifest.py",
        "_gaps(expected.name, size_bytes, own)) != expected.digest",
        "_gaps(expected.name, size_bytes, own)) == None",
        ("checkpoints/test_manifest.py",),
    ),
    Mutant(
        "a checkpoint that could not be written is root's own affair",
        "callback/fit_hooks.py",
        "self._run.on_root(self._schedule.check)",
        "self._schedule.check()",
        ("resume/test_other_ranks.py::test_a_checkpoint_that_cannot_be_written_ends_all_ranks",),
    ),
    Mutant(
        "root's clock decides whether a collective is called",
        "performance/recorder.py",
        "if writes:",
        "if due:",
        ("callback/test_candle_callback.py::test_only_roots_clock_counts[0]",),
    ),
    Mutant(
        "keep_best keeps the worst",
        "resume/checkpoint_schedule.py",
        "reverse=not self._smaller_is_better",
        "reverse=self._smaller_is_better",
        ("callback/test_candle_callback.py::test_the_best_stays",),
    ),
    Mutant(
        "the best checkpoint is removed with the old ones",
        "checkpoints/folder.py",
        "keep.chosen(steps) - set(always)",
        "keep.chosen(steps)",
        ("callback/test_candle_callback.py::test_the_best_stays",),
    ),
    Mutant(
        "the job's limit is ignored",
        "resume/walltime.py",
        "if self.deadline_s is None:",
        "if True:",
        ("resume/test_walltime.py::test_it_stops_before_an_evaluation_that_would_not_fit",),
    ),
    Mutant(
        "the second copy of a stop signal ends the program",
        "launcher_messages.py",
        "SAME_SIGNAL_S = 2.0",
        "SAME_SIGNAL_S = 0.0",
        ("launch/test_run_signals.py::test_the_same_signal_twice_at_once_is_one",),
    ),
    Mutant(
        "a program that a signal ends within a training claims to have nothing to save",
        "launch/rank.py",
        "shared.may_resume and not shared.is_unsaved",
        "shared.may_resume",
        ("launch/test_run_signals.py::test_a_kill_in_a_training_or_after_one_that_nothing_saves",),
    ),
    Mutant(
        "files that a program holds open are cut when it leaves after a save",
        "launch/rank.py",
        "        _flush_all()\n",
        "",
        ("launch/test_run_signals.py::test_an_end_after_a_save_loses_nothing",),
    ),
    Mutant(
        "a checkpoint is taken before the position has advanced",
        "training/fit_chain.py",
        '"after_step": "display timing resume watchdog capture stop"',
        '"after_step": "display timing watchdog capture resume stop"',
        ("callback/test_fit_chain.py::test_the_parts_of_a_fit_are_called_in_this_order",),
    ),
    Mutant(
        "nothing reports a PyDataset that draws in several workers",
        "resume/inexact_resume.py",
        'if parallel and draws_in(data, "__getitem__"):',
        "if False:",
        ("resume/test_inexact_resume.py",),
    ),
    Mutant(
        "a line of the journal is written twice",
        "run_directory.py",
        'b"\\n" * is_cut + line.encode()',
        'b"\\n" * is_cut + 2 * line.encode()',
        ("performance/test_record.py::test_each_epoch_stands_in_the_journal",),
    ),
    Mutant(
        "trackers get an epoch that was trained twice twice",
        "trackers/reconciler.py",
        " or epoch in self._seen:",
        ":",
        ("trackers/test_journal_feed.py",),
    ),
    # Searches.
    Mutant(
        "the lease of a trial never ends",
        "search/leases.py",
        "return time.time() - last_s > self.lease_s and",
        "return False and",
        ("search/test_trial_log.py::test_a_running_trial_gives_signs_of_life",),
    ),
    Mutant(
        "subspaces do not overlap",
        "search/subspaces.py",
        "boxes = _boxes(space, count, overlap, weights, seed)",
        "boxes = _boxes(space, count, 0.0, weights, seed)",
        ("search/test_subspaces.py::test_two_to_the_dimensions_are_the_boxes_of_hyperspace",),
    ),
    Mutant(
        "trials that run are asked for again",
        "search/ask.py",
        "set(space.keys(history.units)) | set(space.keys(history.pending))",
        "set(space.keys(history.units))",
        ("search/test_ask.py::test_every_point_running_means_that_none_is_left",),
    ),
    Mutant(
        "the surrogate knows nothing of the trials that run",
        "search/acquisition.py",
        "if len(data.pending):",
        "if False:",
        ("search/test_ask.py::test_a_point_that_runs_already_promises_nothing_more",),
    ),
    Mutant(
        "an objective that is to be large is made small",
        "search/oracle.py",
        'return -value if objective.direction == "max" else value',
        "return value",
        ("search/test_oracle.py::test_large_is_the_mirror_of_small",),
    ),
    Mutant(
        "a search that goes on draws other points than one that was not interrupted",
        "search/candidates.py",
        "np.random.default_rng([self._known_seed, *seeds])",
        "np.random.default_rng()",
        ("search/test_oracle.py::test_a_search_goes_on_where_it_was",),
    ),
    Mutant(
        "a dominated trial is on the Pareto front",
        "search/leaderboard.py",
        "front[trial] = not (",
        "front[trial] = True or (",
        ("search/test_oracle.py::test_with_two_objectives_the_front_is_what_nothing_betters",),
    ),
    Mutant(
        "each element of an array is the first group of its search",
        "search/groups.py",
        "number = element * here + rank // ranks_per_trial",
        "number = rank // ranks_per_trial",
        ("search/test_groups.py::test_ranks_come_after_elements",),
    ),
    # Launching.
    Mutant(
        "the exit code of a rank that failed is lost",
        "launch/failure.py",
        "if left else (cause.text(), cause.code)",
        "if left else (cause.text(), 0)",
        ("launch/test_run_failures.py::test_a_failed_rank_ends_the_job_and_is_named_last",),
    ),
    Mutant(
        "a job that a rank has left to wait for it ends well",
        "launch/job_launcher.py",
        r'self._left}\n", 1',
        r'self._left}\n", 0',
        ("launch/test_run_left_ranks.py",),
    ),
    Mutant(
        "root reads no standard input",
        "launch/job_launcher.py",
        "rank_variables[STDIN] = stdin_id(stdin)",
        "stdin_id(stdin)",
        ("launch/test_run_like_python.py",),
    ),
    # Submitted jobs.
    Mutant(
        "an unknown word of the scheduler is taken for an end",
        "cluster/status.py",
        'return State(f"unknown ({word})", Phase.UNKNOWN)',
        'return State(f"unknown ({word})", Phase.ENDED)',
        ("cluster/test_status.py::test_a_word_in_no_table_is_shown_and_has_not_ended",),
    ),
    Mutant(
        "each call asks the scheduler anew",
        "cluster/status.py",
        "known = self._cached()",
        "known = None",
        ("cluster/test_status.py::test_one_call_answers_for_all_jobs_and_for_a_while",),
    ),
    Mutant(
        "an answer from before a job's last start is believed",
        "cluster/status.py",
        "is_newer = last is not None and",
        "is_newer = last is None and",
        (
            "cluster/test_status.py::test_an_answer_that_is_older_than_the_last_start_is_not_believed",
        ),
    ),
    Mutant(
        "a job that the scheduler refuses to end is never requeued again",
        "launch/cancel.py",
        """    except LaunchError:
        job.folder.keep(job.element)
        raise""",
        """    except LaunchError:
        raise""",
        ("cluster/test_cancel.py::test_a_job_that_may_not_be_ended_keeps_its_requeue",),
    ),
)


def chosen(words: Iterable[str]) -> list[Mutant]:
    words = list(words)
    return [each for each in MUTANTS if not words or any(w in each.what + each.file for w in words)]


def copied(folder: Path) -> Path:
    """A copy of what the tests need."""
    for name in NEEDED:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder)
    return folder


def run(copy: Path, tests: Iterable[str]) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(copy),
        # A file that was changed twice within a second could be taken for its bytecode's.
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    options = ("-q", "-x", "--tb=line", "--timeout=150", "-p", "no:cacheprovider", "-o", "addopts=")
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, *(f"tests/{test}" for test in tests)],
        cwd=copy,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def verdict(copy: Path, mutant: Mutant) -> str:
    """What the tests make of a mutant."""
    path = copy / "keras_candle" / mutant.file
    plain = path.read_text()
    path.write_text(mutant.applied(plain))
    try:
        done = run(copy, mutant.tests)
    finally:
        path.write_text(plain)
    if done.returncode == PASSED:
        return "SURVIVED"
    if done.returncode == FAILED:
        return "killed"
    return f"ERROR: pytest ended with {done.returncode}\n{done.stdout[-2000:]}"


def main(words: Iterable[str]) -> int:
    mutants = chosen(words)
    found = {"killed": 0, "SURVIVED": 0, "ERROR": 0}
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = copied(Path(folder))
        plain = run(copy, dict.fromkeys(test for each in mutants for test in each.tests))
        if plain.returncode != PASSED:
            print(f"Without a fault the tests have to pass:\n{plain.stdout[-4000:]}")
            return 2
        for mutant in mutants:
            began_s = time.monotonic()
            told = verdict(copy, mutant)
            found[told.partition(":")[0]] += 1
            took_s = time.monotonic() - began_s
            print(f"{told:8} {took_s:4.0f} s  {mutant.what} ({mutant.file})", flush=True)
    print(f"{len(mutants)} mutants: " + ", ".join(f"{n} {word}" for word, n in found.items()))
    return int(found["killed"] < len(mutants))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

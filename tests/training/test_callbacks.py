"""Callbacks: what one rank's do, all ranks do; what drifts apart is named."""

from __future__ import annotations

import pytest

from tests.training import callback_cases as cases
from tests.training.jobs import JOBS, only


@pytest.mark.parametrize(("engine", "size"), JOBS)
@pytest.mark.parametrize(
    ("hook", "number", "batches"),
    [
        ("on_train_batch_end", 3, 3),
        ("on_train_batch_begin", 3, 3),
        ("on_epoch_begin", 2, "first of epoch 2"),
        ("on_train_begin", 1, 1),
    ],
)
def test_all_stop_at_the_batch_at_which_one_wants_to(ranks, engine, size, hook, number, batches):
    count, _ = only(ranks(size).run(cases.stopped, engine=engine, hook=hook, number=number))
    assert count == (96 // 4 // size + 1 if batches == "first of epoch 2" else batches)


def test_a_callback_that_only_one_rank_has_stops_all(ranks):
    run = ranks(2).run
    for rank in (0, 1):
        count, _ = only(
            run(cases.stopped, hook="on_batch_end", number=2, rank=rank, everywhere=False)
        )
        assert count == 2


@pytest.mark.parametrize(("engine", "size"), JOBS)
def test_a_stop_from_outside_of_the_hooks_stops_all_at_the_epochs_end(ranks, engine, size):
    for rank in (0, size - 1):
        how = {"engine": engine, "rank": rank}
        assert only(ranks(size).run(cases.stopped_from_outside, **how)) == (-(-16 // size), [0])


@pytest.mark.parametrize(("engine", "size"), JOBS)
def test_with_a_candle_callback_it_stops_all_within_the_epoch(ranks, tmp_path, engine, size):
    run = ranks(size).run
    how = {"rank": size - 1, "run_directory": str(tmp_path)}
    assert only(run(cases.stopped_from_outside, engine=engine, **how)) == (3, [0])


@pytest.mark.parametrize(
    ("what", "of_root", "of_others"),
    [
        ("options", "'shard': True", "'shard': False"),
        ("checkpoint", "every_epochs=2", "every_epochs=1"),
        ("callback", "'CandleCallback': 'none'", "'CandleCallback': 'given'"),
        ("validation", "'validation_data': 'given'", "'validation_data': 'none'"),
    ],
)
def test_ranks_that_want_other_trainings_are_refused(ranks, tmp_path, what, of_root, of_others):
    for error in ranks(2).errors(cases.unlike, what=what, run_directory=str(tmp_path)):
        assert "The ranks differ in" in error
        assert of_root in error.splitlines()[1]
        assert of_others in error.splitlines()[2]


def test_several_steps_in_one_execution_stop_together(ranks):
    # Of 12 steps an epoch, three in each call of the hook.
    count, _ = only(
        ranks(2).run(cases.stopped, hook="on_train_batch_end", number=2, steps_per_execution=3)
    )
    assert count == 2


@pytest.mark.parametrize(("engine", "size"), JOBS)
def test_terminate_on_nan(ranks, engine, size):
    assert only(ranks(size).run(cases.not_a_number, engine=engine)) == 2


@pytest.mark.parametrize("size", [2, 3])
def test_backup_and_restore_resumes_all_ranks(ranks, tmp_path, size):
    before, after, iterations, _ = only(ranks(size).run(cases.restored, folder=str(tmp_path)))
    assert before == [0, 1, 2]
    assert after == [3, 4]
    assert iterations == 5 * -(-96 // (8 * size))


def test_every_built_in_callback(ranks, tmp_path):
    logs, rate, _ = only(ranks(3).run(cases.every_built_in, folder=str(tmp_path)))
    assert 3 <= len(logs) < 12  # EarlyStopping stopped it
    assert rate < 0.15  # ReduceLROnPlateau reduced it
    assert sorted(each.name for each in tmp_path.iterdir()) == ["best.keras", "log.csv"]


@pytest.mark.parametrize(
    ("what", "name", "value"),
    [
        ("weight", "dense_1/bias", "1e-07 apart"),
        ("learning_rate", "learning_rate", "0.01, 0.123"),
        ("slot", "velocity", "1 apart"),
        ("loss_scale", "dynamic_scale", "32768, 4"),
    ],
)
def test_the_guard_names_what_differs(ranks, what, name, value):
    for error in ranks(2).errors(cases.meddled, what=what):
        assert error.startswith("DivergenceError: The ranks differ at the end of epoch 2, after ")
        assert name in error
        assert "holds one value" in error
        assert value in error


def test_the_guard_can_be_switched_off(ranks):
    ranks(2).run(cases.meddled, what="slot", guard=False)


@pytest.mark.parametrize(("engine", "size"), JOBS)
@pytest.mark.parametrize("how", ["hidden", "by_hand"])
def test_gradients_that_were_never_averaged_are_found_in_the_first_step(ranks, engine, size, how):
    for error in ranks(size).errors(cases.bypassed, engine=engine, how=how):
        assert error.startswith("DivergenceError: The ranks differ after step 1")
        assert "kernel" in error
        assert "was not averaged over the ranks" in error


def test_an_optimizer_in_a_list_is_found(ranks):
    only(ranks(2).run(cases.bypassed, how="listed"))


def test_a_loop_by_hand_shows_when_the_ranks_meet_again(ranks):
    before, after = zip(*ranks(2).run(cases.loop_by_hand), strict=True)
    assert len(set(before)) == 2
    assert set(after) == {before[0]}
    assert "weights differed before evaluate" in ranks(2).log()[-4000:]

"""Moving blocks: trajectories, block lengths, and the rows of means that scores travel as."""

import numpy as np

from emulator.evaluation.resampling import block_length, resample


def test_blocks_stay_within_their_trajectory_and_use_every_time_equally():
    trajectory = np.repeat([0, 1, 2], [10, 10, 4])
    many = resample(trajectory, length=6, count=4000, seed=0)
    np.testing.assert_allclose(many.drawn.sum(axis=1), 1.0)
    # the short one is a block of its own, which makes its share a little larger where it is drawn
    np.testing.assert_allclose(many.drawn.mean(axis=0), 1 / 24, rtol=0.15)
    # many short ones beside a long one
    many = resample(np.repeat(np.arange(7), [90, *[6] * 6]), length=24, count=4000, seed=0)
    np.testing.assert_allclose(many.drawn.mean(axis=0), 1 / 126, rtol=0.15)
    # blocks as long as a trajectory are trajectories: two draws of two wholes
    single = resample(np.repeat([0, 1], 5), length=10, count=200, seed=0)
    assert {tuple(w) for w in np.round(single.drawn[:, [0, 5]], 6).tolist()} == {
        (0.2, 0.0),
        (0.1, 0.1),
        (0.0, 0.2),
    }


def test_a_block_is_a_run_that_wraps_around():
    one = resample(np.zeros(9, int), length=9, count=50, seed=0).drawn
    np.testing.assert_allclose(one, 1 / 9)  # one block of all
    runs = resample(np.zeros(9, int), length=3, count=50, seed=0).drawn * 9
    np.testing.assert_allclose(runs, runs.round(), atol=1e-12)  # three blocks of three: whole counts
    changes = np.abs(np.diff(np.concatenate([runs, runs[:, :1]], axis=1), axis=1)).sum(axis=1)
    assert changes.max() <= 6  # at most three rises and three falls around the circle


def test_a_resample_holds_no_fewer_times_than_there_are():
    three_blocks = resample(np.zeros(10, int), length=4, count=50, seed=0).drawn * 12
    np.testing.assert_allclose(three_blocks, three_blocks.round(), atol=1e-12)
    assert (three_blocks.round() % 3 != 0).any()  # and are no multiples of a third


def test_rows_are_the_mean_then_without_each_then_resamples():
    values = np.random.default_rng(0).normal(size=(3, 6))
    resamples = resample(np.zeros(6, int), length=2, count=11, seed=0)
    mean, without_one, drawn = resamples.split(resamples.means(values))
    np.testing.assert_allclose(mean, values.mean(axis=1))
    for i in range(6):
        np.testing.assert_allclose(without_one[:, i], np.delete(values, i, axis=1).mean(axis=1))
    assert drawn.shape == (3, 11) and resamples.rows == 18


def test_the_same_seed_draws_the_same():
    first, again, other = (resample(np.zeros(20, int), 3, 50, seed).drawn for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_block_length_grows_with_inflation():
    lengths = [block_length(v, 100) for v in (0.5, 1.0, 2.0, 4.0, 9.0, 1e9)]
    assert lengths[:2] == [1, 1] and lengths == sorted(lengths)
    assert lengths[3] == 12  # V = 4, n = 100: L = (101 - L)^(1/2) gives 9.56, and 12 is the next of the ladder
    assert block_length(5.0, 1) == 1

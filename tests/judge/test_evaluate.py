"""What `effgen eval` counts."""

import numpy as np

from effgen.judge.evaluate import ClassCount, Shares, counts_of, shares_of

TRUTH = np.array([0, 0, 0, 0, 2, 2])


def test_shares_are_of_all_pictures() -> None:
    best = np.array(
        [[0, 1, 2, 3, 4], [1, 0, 2, 3, 4], [5, 1, 2, 3, 4], [0, 1, 2, 3, 4], [1, 2, 3, 4, 5], [2, 1, 3, 4, 5]]
    )
    assert shares_of(best, TRUTH, 6) == Shares(3 / 6, 5 / 6)
    assert shares_of(best[:, :4], TRUTH, 4) == Shares(3 / 6, None)


def test_what_classes_are_taken_for() -> None:
    """The most frequent wrong one, of equally frequent ones the first; classes without pictures are left out."""
    counts = list(counts_of(np.array([3, 1, 0, 1, 2, 2]), TRUTH, ["a", "b", "c", "d"]))
    assert counts == [ClassCount(0, "a", 4, 3, 1, "b", 2), ClassCount(2, "c", 2, 0, None, None, 0)]
    (first, _) = counts_of(np.array([3, 1, 0, 0, 2, 2]), TRUTH, ["a", "b", "c", "d"])
    assert (first.taken_for, first.times, first.errors) == (1, 1, 2)

"""Pareto fronts: who is kept, in which order, and who stays of equals."""

from hypothesis import given
from hypothesis import strategies as st

from effgen.results.front import pareto_front

POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)))


def front_of(points: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return pareto_front(points, cost=lambda point: point[0], gain=lambda point: point[1])


@given(POINTS)
def test_front_is_what_nobody_beats(points: list[tuple[int, int]]) -> None:
    def beaten(point: tuple[int, int]) -> bool:
        return any(other != point and other[0] <= point[0] and other[1] >= point[1] for other in points)

    assert front_of(points) == sorted({point for point in points if not beaten(point)})


def test_the_first_of_equals_stays() -> None:
    first, second = ("first", 1.0, 2.0), ("second", 1.0, 2.0)
    assert pareto_front([first, second], cost=lambda item: item[1], gain=lambda item: item[2]) == [first]

"""Things made in the background: the same things, in the same order, and errors where they belong."""

import threading

import pytest

from zhichun.core.device import ahead


@pytest.mark.parametrize("lookahead", [0, 1, 2, 9])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_all_come_in_their_order(count, lookahead):
    assert list(ahead(iter(range(count)), lookahead)) == list(range(count))


def test_so_many_and_no_more_are_made_ahead():
    made, third, room = [], threading.Event(), threading.Event()

    def items():
        for number in range(9):
            made.append(number)
            if number == 2:
                third.set()
                room.wait(5)
            yield number

    given = ahead(items(), 2)
    assert next(given) == 0
    assert third.wait(5)  # while nobody asks for it
    room.set()
    assert next(given) == 1
    given.close()
    assert len(made) <= 5


def test_without_lookahead_nothing_is_made_before_it_is_asked_for():
    made = []
    given = ahead((made.append(number) for number in range(3)), 0)
    next(given)
    assert made == [0]


@pytest.mark.parametrize("lookahead", [0, 2])
def test_an_error_comes_where_the_item_would_have(lookahead):
    def items():
        yield from range(3)
        raise KeyError("the fourth")

    given = ahead(items(), lookahead)
    assert [next(given) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError, match="the fourth"):
        next(given)


def test_whoever_stops_early_leaves_no_thread_behind():
    before = threading.active_count()
    given = ahead(iter(range(100)), 2)
    next(given)
    given.close()
    assert threading.active_count() == before

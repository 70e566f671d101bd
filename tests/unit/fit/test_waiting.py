"""The share of the time that a loop waits for its data."""

import time

import pytest

from zhichun.fit.waiting import Waiting


def test_what_is_waited_for_is_counted_and_what_is_done_meanwhile_is_not():
    def slow():
        for item in range(4):
            time.sleep(0.03)
            yield item

    waiting, seen = Waiting(), []
    for item in waiting.timed(slow()):
        seen.append(item)
        time.sleep(0.03)
        last = waiting.share
    assert seen == [0, 1, 2, 3]
    assert waiting.seconds == pytest.approx(0.09, abs=0.03)
    assert 0.2 < last < 0.7

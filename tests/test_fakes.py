"""The stand-ins in memory: no test passes because what it is about never came."""

from __future__ import annotations

import pytest
from tests.fakes import FakeClock, nothing_missed


@pytest.mark.xfail(raises=AssertionError, strict=True, reason="its event never comes")
def test_a_test_that_ends_before_what_it_planned_fails() -> None:
    """Whatever it asserts: of a machine that is to land, "none is left" is true until it lands."""
    FakeClock().at(3, list)


def test_a_missed_event_does_not_hide_why_a_test_failed() -> None:
    """The first error is the one to read, and the next test begins without the event."""
    with pytest.raises(KeyError), nothing_missed():
        FakeClock().at(3, list)
        raise KeyError("the test's own")
    assert FakeClock.awaited == []


def test_what_happened_or_does_not_have_to_is_not_missed() -> None:
    """An event counts by itself, not by what it does: here two of three do the same at once."""
    clock, happened = FakeClock(), list[int]()
    with nothing_missed():
        clock.at(3, lambda: happened.append(3))
        clock.at(3, lambda: happened.append(3))
        clock.at(9, lambda: happened.append(9), must=False)
        clock.sleep(3)
    assert happened == [3, 3]


def test_one_of_two_like_events_is_missed() -> None:
    """The same call at the same time on two clocks is two events; the message says when."""
    first, second = FakeClock(), FakeClock()
    for clock in (first, second):
        clock.at(3, list)
    first.sleep(3)
    with pytest.raises(AssertionError, match=r"these seconds: \[3\]"), nothing_missed():
        second.sleep(2)

"""Limits that follow the machine still end something."""

from __future__ import annotations

import pytest
from tests import pace
from tests.pace import assert_within, slowness, until


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine of which nothing has been measured yet."""
    monkeypatch.setattr(pace, "PACE", pace.Pace())
    return monkeypatch


def at_rest(machine: pytest.MonkeyPatch, seconds: float) -> None:
    """Have a no-op take so long on a machine at rest."""
    machine.setattr(pace, "AT_REST", seconds)


def test_a_machine_at_rest_keeps_the_promise(machine: pytest.MonkeyPatch) -> None:
    """Its limit is what was promised, and not a moment more."""
    at_rest(machine, 1000.0)
    assert slowness() == 1.0
    assert_within(7.0, 6.9)
    with pytest.raises(AssertionError, match=r"took 7\.0 s, not 7"):
        assert_within(7.0, 7.0)


def test_a_slow_machine_has_longer(machine: pytest.MonkeyPatch) -> None:
    """As many times longer as a no-op takes on it, and no longer than that."""
    at_rest(machine, 1e-6)
    times = slowness()
    assert times > 1000
    assert_within(7.0, 6.9 * times)
    with pytest.raises(AssertionError):
        assert_within(7.0, 1e12)


def test_a_load_that_comes_meanwhile(machine: pytest.MonkeyPatch) -> None:
    """What was measured before does not bind: too late is measured again."""
    at_rest(machine, 1000.0)
    assert slowness() == 1.0
    at_rest(machine, 1e-6)
    assert_within(7.0, 70.0)


def test_a_load_that_has_gone_again(machine: pytest.MonkeyPatch) -> None:
    """The slowest that was measured counts."""
    at_rest(machine, 1e-6)
    slowness()
    at_rest(machine, 1000.0)
    assert_within(7.0, 70.0)


def test_what_never_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails in the end, and says what there is instead."""
    monkeypatch.setattr(pace, "PATIENCE", 0.05)
    with pytest.raises(AssertionError, match="nothing yet"):
        until(lambda: False, lambda: "nothing yet")

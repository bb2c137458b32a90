"""A start's last net: a signal that comes just when it leaves what it has rented."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from tests.fakes import World, start_env

from gpu_ci.errors import Forbidden
from gpu_ci.runtime.signals import Cancelled
from gpu_ci.start import start
from gpu_ci.start.rental import Rental

if TYPE_CHECKING:
    from pathlib import Path

    from gpu_ci.runtime.signals import Cancellation


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    """What the next start rents from, instead of what its inputs name."""
    world = World.of()

    def prepare(
        _inputs: object, _env: object, _deadline: object, cancellation: Cancellation
    ) -> Rental:
        world.rental.cancellation = cancellation
        return world.rental

    monkeypatch.setattr("gpu_ci.start.prepare", prepare)
    for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"):
        (tmp_path / name).touch()
        monkeypatch.setenv(name, str(tmp_path / name))
    return world


@pytest.fixture
def _signal_on_leaving(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send a SIGINT when the rental's `with` ends, before any of its own code can catch it."""
    leave = Rental.__exit__

    def interrupted(rental: Rental, *given: object) -> None:
        signal.raise_signal(signal.SIGINT)
        leave(rental, *given)  # type: ignore[arg-type]  # what the `with` gave

    monkeypatch.setattr(Rental, "__exit__", interrupted)


@pytest.mark.usefixtures("_signal_on_leaving")
@pytest.mark.parametrize("online", [True, False])
def test_a_signal_while_the_rental_is_left_gives_everything_back(
    world: World, tmp_path: Path, *, online: bool
) -> None:
    """Whether all was well or the start was failing: nobody else would give it back (pain 7)."""
    if online:
        world.clock.at(5, lambda: world.github.set(101))
    else:
        world.github.failing["runner"] = Forbidden("Bad credentials.")
    with pytest.raises(Cancelled):
        start(start_env(), world.clock)
    assert summary_of(tmp_path).startswith("### GPU runner: failed, nothing is left\n")
    assert {"delete 101", "release m-1"} <= set(world.provider.journal)
    assert world.provider.machines == {}
    assert world.github.registered == {}
    assert world.provider.hurried
    assert not world.rental.left


@pytest.mark.usefixtures("_signal_on_leaving")
@pytest.mark.parametrize("failure", [Forbidden("No."), ZeroDivisionError()])
def test_what_is_left_of_a_start_that_was_online_is_on_the_page(
    world: World, tmp_path: Path, failure: Exception
) -> None:
    """A runner that came online is no comfort when its machine could not be given back, also where
    a bug broke the giving back."""
    world.clock.at(5, lambda: world.github.set(101))
    world.github.failing["delete"] = failure
    with pytest.raises((Cancelled, ZeroDivisionError)):
        start(start_env(), world.clock)
    head = "### GPU runner: failed, and not all could be given back\n"
    assert summary_of(tmp_path).startswith(head)


def summary_of(folder: Path) -> str:
    return (folder / "GITHUB_STEP_SUMMARY").read_text()


def test_a_start_that_is_online_keeps_what_it_rented(world: World, tmp_path: Path) -> None:
    """Without a signal nothing is given back."""
    world.clock.at(5, lambda: world.github.set(101))
    start(start_env(), world.clock)
    assert list(world.provider.machines) == ["m-1"]
    assert list(world.github.registered) == [101]
    assert summary_of(tmp_path).startswith("### GPU runner: online\n")

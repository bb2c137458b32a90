"""Signals become one exception, at the right moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gpu_ci.runtime.signals import SIGNALS, Cancellation, Cancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Every handler and timer is put back, whatever a test leaves."""
    watched = (*SIGNALS, signal.SIGALRM)
    before = {signum: signal.getsignal(signum) for signum in watched}
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    for signum, handler in before.items():
        signal.signal(signum, handler)


def send(signum: signal.Signals) -> None:
    os.kill(os.getpid(), signum)


def cancelled_by(cancellation: Cancellation, signum: signal.Signals) -> Cancelled:
    with pytest.raises(Cancelled) as caught, cancellation:
        send(signum)
    return caught.value


@pytest.mark.parametrize("signum", SIGNALS)
def test_the_first_signal_raises(signum: signal.Signals) -> None:
    """Each signal of a cancel ends the story with its name and the shell's exit code for it."""
    cancelled = cancelled_by(Cancellation(), signum)
    assert str(cancelled) == f"cancelled by {signum.name}"
    assert cancelled.exit_code == 128 + signum


def test_nothing_but_the_clean_up_catches_it() -> None:
    """`except Exception`, of which libraries are full, lets it through."""
    assert not issubclass(Cancelled, Exception)


def test_later_signals_are_only_noted() -> None:
    """The SIGTERM that the runner sends 7.5 s after SIGINT does not disturb the clean-up (pain 7)."""
    steps = []
    with Cancellation():
        try:
            send(signal.SIGINT)
        except Cancelled:
            for signum in SIGNALS:
                send(signum)
                steps.append(signum)
    assert steps == list(SIGNALS)


def test_the_handlers_before_are_back_afterwards() -> None:
    """Outside of its `with`, signals do what they did."""
    before = [signal.getsignal(signum) for signum in (*SIGNALS, signal.SIGALRM)]
    cancelled_by(Cancellation(), signal.SIGINT)
    assert [signal.getsignal(signum) for signum in (*SIGNALS, signal.SIGALRM)] == before


def test_after_finish_signals_change_nothing() -> None:
    """What gives back is not interrupted."""
    with Cancellation() as cancellation:
        cancellation.finish()
        for signum in SIGNALS:
            send(signum)
        with cancellation.held(5.0):
            send(signal.SIGINT)


def held(grace: float, *steps: Callable[[], None]) -> None:
    """Take some steps as a call whose answer is waited for."""
    with Cancellation() as cancellation, cancellation.held(grace):
        for step in steps:
            step()


def cancel() -> None:
    send(signal.SIGINT)


def no_answer() -> None:
    raise OSError("no answer")


def test_an_answer_on_its_way_is_taken_first() -> None:
    """A signal during a create call waits until the answer is noted (lost answer: pain 14)."""
    noted = []
    with pytest.raises(Cancelled):
        held(60.0, cancel, lambda: noted.append("the machine's id"))
    assert noted == ["the machine's id"]


def test_the_first_of_several_signals_counts() -> None:
    """A SIGTERM while an answer is waited for changes neither the reason nor the exit code."""
    with pytest.raises(Cancelled) as caught:
        held(60.0, cancel, lambda: send(signal.SIGTERM))
    assert caught.value.exit_code == 130


def test_no_answer_is_waited_for_longer_than_the_grace() -> None:
    """A create call that never answers is left when the grace is over."""
    reached = []
    with pytest.raises(Cancelled):
        held(0.02, cancel, lambda: time.sleep(30), lambda: reached.append("the call's end"))
    assert reached == []


def test_a_failed_call_does_not_hide_the_cancel() -> None:
    """An error inside, while a signal waits, is the cancel's context and no more."""
    with pytest.raises(Cancelled) as caught:
        held(60.0, cancel, no_answer)
    assert isinstance(caught.value.__context__, OSError)


def test_a_failed_call_without_a_signal_fails() -> None:
    """Nothing is made of an error when nobody cancelled."""
    with pytest.raises(OSError, match="no answer"):
        held(60.0, no_answer)


def test_behind_an_answer_signals_raise_at_once_again() -> None:
    """The grace ends with the call, and so does its timer."""
    reached = []
    with Cancellation() as cancellation:
        with cancellation.held(60.0):
            pass
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
        try:
            cancel()
            reached.append("behind the signal")
        except Cancelled:
            reached.append("cancelled")
    assert reached == ["cancelled"]


def test_a_process_under_a_cancel_cleans_up() -> None:
    """The runner's own order of signals, to a process of its own: one clean-up, undisturbed, and
    the exit code of the first signal (Python clean-up never runs on cancel: pain 7)."""
    script = """
        import signal, sys, time
        from gpu_ci.runtime.signals import Cancellation, Cancelled
        with Cancellation():
            try:
                print("ready", flush=True)
                while True:  # a pause would not end if the signal came just before it
                    time.sleep(0.02)
            except Cancelled as cancelled:
                print("cleaning", flush=True)
                sys.stdin.readline()
                print("clean", flush=True)
                sys.exit(cancelled.exit_code)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={"PYTHONPATH": str(SHARED)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "cleaning\n"
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        print(file=process.stdin, flush=True)
        assert process.stdout.read() == "clean\n"
    assert process.returncode == 130

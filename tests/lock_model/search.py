"""Looks for a schedule that breaks the lock: over all of them, or over random ones."""

from __future__ import annotations

import gc
import random
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from unittest.mock import patch

from tests.lock_model.process import Seen
from tests.lock_model.world import World

from gpu_ci.kept import lock
from gpu_ci.release import give_back
from gpu_ci.start import rental

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.lock_model.state import Setup
    from tests.lock_model.world import Move


@dataclass(kw_only=True)
class Found:
    """What a search has seen: how many states and schedules, and the first that is wrong."""

    states: int = 0
    schedules: int = 0
    complete: bool = True
    wrong: str = ""
    story: list[str] = field(default_factory=list)


Path = tuple[Any, ...]


def explore(setup: Setup, most: int = 10**9, wanted: str = "") -> Found:
    """Follow every schedule, by taking its beginning again, until a state is met again.

    Stops at the first that is wrong in the wanted way, or after so many schedules.
    """
    found, states, seen = Found(), set[int](), Seen()
    pending: list[Path] = [()]
    with _alone():
        while pending and not found.wrong:
            if found.schedules == most:
                found.complete = False
                break
            found.schedules += 1
            path, wrong = _follow(setup, pending, states, seen)
            if wrong and wanted in wrong:
                found.wrong, found.story = wrong, retold(setup, _unrolled(path))
    found.states = len(states)
    return found


def _follow(setup: Setup, pending: list[Path], states: set[int], seen: Seen) -> tuple[Path, str]:
    """Follow the latest pending beginning; return where that led, and what is wrong there."""
    path = pending.pop()
    world = World(setup, seen)
    for move in _unrolled(path):
        world.do(move)
    while not world.wrong:
        key = hash(world.key())  # 64 bits, and millions of states: a collision is not to be feared
        if key in states:
            break
        states.add(key)
        moves = world.moves()
        if not moves:
            world.wrong = world.left_over()
            break
        pending += [(path, other) for other in moves[1:]]
        path = (path, moves[0])
        world.do(moves[0])
    world.end()
    return path, world.wrong


def _unrolled(path: Path) -> list[Move]:
    moves: list[Move] = []
    while path:
        path, move = path
        moves.append(move)
    return moves[::-1]


def walk(setup: Setup, seed: int) -> Found:
    """Follow one schedule that the seed picks."""
    dice = random.Random(seed)
    world, path = World(setup, Seen()), list[Any]()
    with _alone():
        while not world.wrong and (moves := world.moves()):
            path.append(_pick(dice, moves))
            world.do(path[-1])
        wrong = world.wrong or world.left_over()
        world.end()
    story = retold(setup, path) if wrong else []
    return Found(schedules=1, wrong=wrong, story=story)


def _pick(dice: random.Random, moves: Sequence[Move]) -> Move:
    """Crashes are many and the other steps few: most of the time take one of these."""
    calm = [move for move in moves if move[0] not in WAYS]
    return dice.choice(calm if calm and dice.random() < 0.97 else moves)


WAYS = {"kill", "cancel", "cancel after", "lost", "failed", "unread", "overslept", "late"}


def retold(setup: Setup, moves: Sequence[Move]) -> list[str]:
    """Return a schedule in words, a line for each step."""
    with _alone():
        world, story = World(setup, Seen()), []
        for move in moves:
            story.append(world.told(move))
            world.do(move)
        world.end()
    return story


class _NoChance:
    @staticmethod
    def token_hex(size: int) -> str:
        return "00" * size


class _InTurn:
    """An executor without threads: a process of the model is one greenlet."""

    def __init__(self, _: int) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, task: Callable[[], object]) -> _Done:
        return _Done(task())


@dataclass(frozen=True)
class _Done:
    value: object

    def result(self) -> object:
        return self.value


@contextmanager
def _alone() -> Iterator[None]:
    """Leave out the text of the boot script, threads and chance: the same schedule is the same."""
    with (
        patch.object(rental, "render", lambda _boot: ""),
        patch.object(lock, "secrets", _NoChance),
        patch.object(give_back, "ThreadPoolExecutor", _InTurn),
    ):
        gc.freeze()  # the worlds that are thrown away are looked for among few others
        try:
            yield
        finally:
            gc.unfreeze()

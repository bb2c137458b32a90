"""The watchdog in any world: what its passes never do, whatever happens meanwhile, and that they end
what is left over."""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from tests.github.desk import desk_at
from tests.watchdog.any_events import Event, StartRun, beginnings, changes, faults
from tests.watchdog.any_run import LIMIT as RUN_LIMIT
from tests.watchdog.any_run import AnyRun, Plan
from tests.watchdog.any_world import LIFETIME, LIMIT, ROUNDING, AnyWorld, Meanwhile, Pass

from gpu_ci.errors import NeverPickedUp
from gpu_ci.watchdog.in_run import ANSWER_SECONDS, LOOK_SECONDS, OUTAGE_SECONDS
from gpu_ci_sandbox.fake_github.rest import serve_github

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from gpu_ci_sandbox.fake_github.rest import ServedGitHub
    from gpu_ci_sandbox.faults import Rule

rough_passes = st.builds(
    Pass,
    dry_run=st.sampled_from([False, False, False, True]),
    admin=st.sampled_from([True, True, True, False]),
    providers=st.sampled_from([True, True, True, False]),
    cache=st.booleans(),
    labels=st.sampled_from(["", "", "gp*"]),
    max_actions=st.sampled_from([1, 2, 20]),
    faults=st.one_of(st.just(()), st.lists(faults, max_size=2)),
    failing=st.one_of(
        st.just(()),
        st.lists(st.sampled_from(["find", "release", "look at", "pause"]), max_size=2, unique=True),
    ),
    left=st.sampled_from([5000, 5000, 5000, 1010, 205, 0]),
)


sound_passes = st.builds(Pass, cache=st.booleans(), max_actions=st.sampled_from([20, 20, 2, 1]))
passes = st.one_of(sound_passes, sound_passes, rough_passes)
# In a pass: the pause between two acts, the tries of one request, the looks after a cancel, the two
# readings of what is left over.
moments = st.one_of(st.just(0.5), st.floats(0.1, 9), st.floats(0.1, 150))
pauses = st.sampled_from([1.0, 31.0, LIMIT, LIMIT, LIFETIME])
# Three do the work, and the one after them finds none.
CALM_PASSES = 4


@pytest.fixture(scope="module")
def hub() -> Iterator[ServedGitHub]:
    with serve_github() as served:
        yield served


class Anything(RuleBasedStateMachine):
    """Anything happens, and passes are made; at the end all is calm, and they finish their work."""

    organization = False
    hub: ServedGitHub
    folder: Path
    numbers = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        desk = self.stack.enter_context(desk_at(self.hub))
        folder = self.folder / str(next(self.numbers))
        self.world = AnyWorld.at(desk, folder, organization=self.organization)
        for _ in range(3):
            StartRun().happen(self.world)

    @initialize(many=st.lists(beginnings, min_size=6, max_size=20))
    def begins(self, many: Sequence[Event]) -> None:
        for event in many:
            event.happen(self.world)

    @rule(many=st.lists(changes, min_size=1, max_size=6), seconds=pauses)
    def happens(self, many: Sequence[Event], seconds: float) -> None:
        for event in many:
            event.happen(self.world)
        self.world.desk.clock.sleep(seconds)

    @rule(
        asked=passes,
        in_requests=st.lists(st.tuples(st.integers(1, 30), changes), max_size=5),
        in_seconds=st.lists(st.tuples(moments, changes), max_size=5),
        in_acts=st.lists(st.tuples(st.integers(1, 3), moments, changes), max_size=5),
    )
    def make_pass(
        self,
        asked: Pass,
        in_requests: Sequence[tuple[int, Event]],
        in_seconds: Sequence[tuple[float, Event]],
        in_acts: Sequence[tuple[int, float, Event]],
    ) -> None:
        world, clock = self.world, self.world.desk.clock
        for after, event in in_seconds:
            clock.at(clock.elapsed() + after, partial(event.happen, world), must=False)
        meanwhile = [
            *(
                Meanwhile(request=n, happen=partial(event.happen, world))
                for n, event in in_requests
            ),
            *(
                Meanwhile(act=n, seconds=seconds, happen=partial(event.happen, world))
                for n, seconds, event in in_acts
            ),
        ]
        world.make_pass(asked, meanwhile)

    @invariant()
    def nothing_wrong(self) -> None:
        assert not self.world.wrong

    def teardown(self) -> None:
        with self.stack:
            if not self.world.wrong:
                self.finish()

    def finish(self) -> None:
        """A few passes end what is left over, and the next one finds nothing to do."""
        world = self.world
        world.calm()
        for _ in range(CALM_PASSES):
            world.desk.clock.sleep(LIMIT + LIFETIME)
            error = world.make_pass(Pass())
            world.calm()
            if not world.acts:
                break
        assert not world.wrong
        assert world.acts == []
        assert error is None
        assert world.left_over() == []


# The suite's profile has the same examples in every run; another one looks for new ones, and longer.
SUITE = settings().derandomize
bounded = settings(
    deadline=None,
    max_examples=30 if SUITE else 1500,
    stateful_step_count=6,
    suppress_health_check=list(HealthCheck),
)
watched = settings(bounded, max_examples=40 if SUITE else 1000)
# A watch looks so often, and once more before it acts.
SECONDS = 2 * LOOK_SECONDS


@pytest.mark.parametrize("organization", [False, True], ids=["repository", "organisation"])
def test_a_pass_ends_only_what_is_nobodys(
    hub: ServedGitHub, tmp_path: Path, organization: bool
) -> None:
    """Whatever happens before and in the middle of a pass, and whatever fails: no job loses its run,
    its runner or its machine, a dry run changes nothing, no more is ended than may be, and when all
    is calm a few passes leave nothing over and then do nothing (pains 4, 9, 15, 22)."""
    known = {"hub": hub, "folder": tmp_path, "organization": organization}
    run_state_machine_as_test(type("World", (Anything,), known), settings=bounded)


labels = st.sampled_from(["ours", "ours", "first", "foreign"])
ends = st.sampled_from(["begins", "begins", "cancelled"])
# Of the time that a job may wait: well in time, well too late, or never.
waits = st.one_of(st.floats(0, 0.6), st.floats(0, 0.6), st.floats(0, 0.6), st.floats(1.4, 3))
decided_plans = st.builds(
    Plan.waiting,
    st.one_of(waits, st.none()),
    label=labels,
    held=st.sampled_from([0.0, 0.0, 29.0, 0.6 * RUN_LIMIT]),
    then=ends,
)
times = st.floats(0, 2 * RUN_LIMIT)
any_plans = st.builds(
    Plan,
    label=labels,
    appears=st.one_of(st.just(0.0), times),
    held=st.one_of(st.just(0.0), times),
    waits=st.one_of(st.none(), times),
    then=ends,
)


@watched
@given(st.lists(decided_plans, min_size=1, max_size=4))
def test_a_watch_ends_as_the_jobs_do(hub: ServedGitHub, plans: list[Plan]) -> None:
    """It succeeds, within seconds, if each watched job gets its runner in time; else it fails as soon
    as the first one is late, and has asked once for the cancel."""
    with desk_at(hub) as desk:
        run = AnyRun.of(desk, plans)
        error = run.watch()
    told = [plan for plan in plans if plan.label != "foreign"]
    late = [plan.queued_at + plan.limit for plan in told if plan.is_late]
    assert isinstance(error, NeverPickedUp) == bool(late)
    assert len(run.cancels) == len(late[:1])
    end = min(late) if late else max([plan.taken_at for plan in told], default=RUN_LIMIT)
    assert desk.clock.elapsed() <= end + SECONDS
    assert not told or desk.clock.elapsed() >= end - ROUNDING


@watched
@given(
    st.lists(any_plans, max_size=4), st.lists(faults, max_size=2), st.sampled_from([False, True])
)
def test_a_watch_always_ends(
    hub: ServedGitHub, plans: list[Plan], faults: list[Rule], dry_run: bool
) -> None:
    """Whatever jobs come and go and however GitHub answers: it cancels only when a watched job is
    late, never succeeds while one is queued, and ends."""
    with desk_at(hub) as desk:
        run = AnyRun.of(desk, plans)
        error = run.watch(faults, dry_run=dry_run)
        left = run.queued()
    assert run.early == []
    assert not (dry_run and run.cancels)
    assert bool(run.cancels) == (isinstance(error, NeverPickedUp) and not dry_run)
    assert error or not left
    assert not error or isinstance(error, NeverPickedUp) or faults
    changes = [time for plan in plans for time in (plan.queued_at, plan.taken_at)]
    last = max([time for time in changes if time < float("inf")], default=0.0)
    assert desk.clock.elapsed() <= last + RUN_LIMIT + OUTAGE_SECONDS + ANSWER_SECONDS + SECONDS

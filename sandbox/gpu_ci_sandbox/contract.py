"""What holds for every provider, as a test to inherit; needs the extra `contract`.

    class TestAcme(ProviderContract):
        @pytest.fixture
        def world(self) -> World: ...

A `World` is what the test needs of the provider's cloud: orders, and ways to make the cloud fail.
"""
# ruff: noqa: S101, PLR2004 -- assertions are what it is made of, and the figures in them

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import os
import re
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

import pytest

from gpu_ci.boot.script import Place
from gpu_ci.errors import BadInputs, CloudError, CloudUnreachable
from gpu_ci.model.identity import Identity
from gpu_ci.model.machine import Machine, Price, State, from_handle, to_handle
from gpu_ci.model.tags import Tags
from gpu_ci.providers import (
    PROVIDERS,
    Check,
    Keeper,
    Order,
    Provider,
    about,
    provider_class,
    read_options,
)

if TYPE_CHECKING:
    from collections.abc import Callable

IN_A_HURRY: Final = 2.0
LONG_AGO: Final = 1_700_000_000.0
# What is slow to load, and comes with the first call.
HEAVY: Final = {"asyncssh", "boto3", "botocore", "requests", "jarvislabs"}
TAGS: Final = Tags(
    name="",
    label="gpu-ci-77-1-test-abc1230123-0-x7",
    repository="octo/widgets",
    run_id="77",
    attempt="1",
    key="test",
    scope="repos/octo/widgets",
    starter="4711",
    runner_id=12,
    expires_at=1_900_000_000,
)


def tags_of(index: int = 0, **changed: Any) -> Tags:
    """Return `TAGS` with other fields, and the name that the index-th machine of that start has."""
    tags = dataclasses.replace(TAGS, **changed)
    identity = Identity(
        repository=tags.repository,
        run_id=tags.run_id,
        attempt=tags.attempt,
        key=tags.key,
        scope=tags.scope,
    )
    return dataclasses.replace(tags, name=tags.name or identity.name(index))


class World(Protocol):
    """What the contract test needs of a provider's cloud.

    `tags_are_kept` says that the cloud holds a machine's tags and the time of its launch; one that
    does not knows what the name tells.
    """

    tags_are_kept: bool

    def provider(self) -> Provider:
        """Make the provider anew, as another process would."""

    def order(self, index: int = 0, **tags: Any) -> Order:
        """An order that succeeds, for the index-th machine, by tags that differ from `TAGS`."""

    def live(self) -> int:
        """Say how many machines are really there, without asking the provider."""

    def contacts(self) -> int:
        """Say how often the cloud has been asked anything."""

    def lose_next_answer(self) -> None:
        """Let the next create call succeed without its caller being told, where that can be."""

    def break_a_region(self) -> bool:
        """Let one region answer nothing; False where there are no regions to break."""

    def hang(self) -> None:
        """Let no call be answered any more, where that can be."""


class ProviderContract:
    """Inherit it, with a fixture `world` that is made anew for each test."""

    def assert_within(self, promised: float, took: float) -> None:
        """Fail if something took longer than the seconds promised.

        Override it where tests run on busy machines and a limit has to follow how slow they are.
        """
        assert took < promised

    def test_it_has_what_the_protocol_names(self, world: World) -> None:
        """Every provider has each name of the Protocol, and something to ask for by default."""
        provider = world.provider()
        names = _protocol_names(Provider) | (
            _protocol_names(Keeper) if provider.about.keeps else set()
        )
        missing = [name for name in names if not hasattr(provider, name)]
        assert missing == []
        assert provider_class(provider.name) is type(provider)
        assert provider.default_machines
        assert "" not in [*provider.default_machines, *provider.default_regions]
        assert isinstance(provider.place("a-name"), Place)

    def test_it_is_known_without_being_made(self, world: World) -> None:
        """Each step masks the secrets of every provider, and makes one provider at most.

        Each secret says what it is, and the workflows take it under its own name; what is required
        can be given to them.
        """
        provider = world.provider()
        found = about(provider.name)
        assert found is type(provider).about
        assert found.name == provider.name
        assert found.title
        for variable, secret in found.secrets.items():
            assert secret.words
            assert secret.taken_as in {"", variable.lower().replace("_", "-")}
            assert secret.taken_as or not secret.required or provider.name not in PROVIDERS

    def test_making_it_asks_nobody(self, world: World) -> None:
        """A provider is made without a call to its cloud."""
        world.provider()
        assert world.contacts() == 0

    def test_loading_it_loads_no_sdk(self, world: World) -> None:
        """Importing and making a provider is cheap: the cloud's SDK comes with the first call."""
        made = type(world.provider())
        program = (
            "import sys\n"
            f"from {made.__module__} import {made.__name__} as found\n"
            "from gpu_ci.runtime.clock import SYSTEM_CLOCK\n"
            "found(found.Options(), {}, SYSTEM_CLOCK)\n"
            f"heavy = {HEAVY} & sys.modules.keys()\n"
            "sys.exit(f'loaded: {heavy}' if heavy else 0)\n"
        )
        path = {"PYTHONPATH": os.pathsep.join(sys.path), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(
            [sys.executable, "-c", program], env=path, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")

    def test_options_are_plain_and_explained(self, world: World) -> None:
        """Options are a frozen dataclass with defaults, and its docstring has a line for each."""
        provider = world.provider()
        options = provider.Options
        assert options() == options()
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(options(), dataclasses.fields(options)[0].name, "x")
        explained = re.findall(r"^(\w+): ", inspect.getdoc(options) or "", re.MULTILINE)
        assert explained == [option.name for option in dataclasses.fields(options)]

    def test_an_unknown_option_is_named(self, world: World) -> None:
        """A misspelt option is an error that names it and those that are known."""
        provider = world.provider()
        options = provider.Options
        known = dataclasses.fields(options)[0].name.replace("_", "-")
        with pytest.raises(BadInputs, match=f"(?s)nonsense.*{known}"):
            read_options(options, {"nonsense": "1"})

    def test_its_own_regions_split_into_themselves(self, world: World) -> None:
        """A default region is a region and names no zone."""
        provider = world.provider()
        for region in provider.default_regions:
            assert provider.split_region(region) == (region, "")

    def test_launch_does_not_wait(self, world: World) -> None:
        """Launch returns while the machine still boots, with what stop will need."""
        provider = world.provider()
        order = world.order()
        machine = provider.launch(order)
        assert machine.provider == provider.name
        assert (machine.tags, machine.type) == (order.tags, order.candidate.type)
        assert machine.id
        assert machine.started
        assert abs(machine.launched_at - time.time()) < 60
        assert provider.state(machine) in {State.PENDING, State.RUNNING}
        assert world.live() == 1

    def test_a_new_machine_is_found_by_its_tags_at_once(self, world: World) -> None:
        """`find` returns what `launch` made, with the same tags, whichever process asks."""
        machine = world.provider().launch(world.order())
        wanted = {"repository": "octo/widgets", "run_id": "77", "attempt": "1"}
        another = world.provider()
        found = [as_found(world, machine)]
        assert list(another.find(wanted, [machine.region] if machine.region else [])) == found
        assert list(another.find(wanted, [])) == found

    def test_find_takes_tags_literally(self, world: World) -> None:
        """Only machines whose tags have exactly these values are found: others may be in use."""
        provider = world.provider()
        first = provider.launch(world.order(key="a*"))
        second = provider.launch(world.order(key="ab"))
        ours = {"repository": "octo/widgets"}
        assert list(provider.find({**ours, "key": "a*"}, [])) == [as_found(world, first)]
        assert {machine.name for machine in provider.find({}, [])} == {first.name, second.name}
        assert list(provider.find({**ours, "key": "a"}, [])) == []
        assert list(provider.find({"run_id": "7"}, [])) == []
        assert list(provider.find({"name": first.name}, [])) == [as_found(world, first)]
        assert list(provider.find({"name": first.name[:-1]}, [])) == []

    def test_the_same_order_twice_is_one_machine(self, world: World) -> None:
        """A create call that is sent again makes no twin."""
        first = world.provider().launch(world.order())
        again = world.provider().launch(world.order())
        assert again.id == first.id
        assert world.live() == 1

    def test_a_lost_answer_makes_no_twin(self, world: World) -> None:
        """A create call whose answer is lost ends as one machine (pain 14)."""
        provider = world.provider()
        world.lose_next_answer()
        machine = provider.launch(world.order())
        assert world.live() == 1
        assert [each.id for each in provider.find({"run_id": "77"}, [])] == [machine.id]

    def test_releasing_twice_is_once(self, world: World) -> None:
        """A released machine is gone for find and state, and may be released again."""
        provider = world.provider()
        machine = provider.launch(world.order())
        provider.release(machine)
        assert provider.state(machine) in {State.ENDING, State.GONE}
        assert list(provider.find({}, [])) == []
        provider.release(machine)
        assert provider.state(machine) in {State.ENDING, State.GONE}

    def test_release_ends_that_machine_only(self, world: World) -> None:
        """Releasing one machine leaves its neighbour alone."""
        provider = world.provider()
        first = provider.launch(world.order())
        second = provider.launch(world.order(1))
        provider.release(first)
        assert list(provider.find({}, [])) == [as_found(world, second)]

    def test_a_machine_that_nobody_knows_is_gone(self, world: World) -> None:
        """State and release of a machine that the cloud has forgotten: gone, which is success."""
        provider = world.provider()
        unknown = _unknown(world, provider)
        assert provider.state(unknown) is State.GONE
        provider.release(unknown)

    def test_find_is_complete_or_an_error(self, world: World) -> None:
        """A region that does not answer is never passed over."""
        provider = world.provider()
        machine = provider.launch(world.order())
        if world.break_a_region():
            with pytest.raises(CloudUnreachable):
                provider.find({}, [])
        else:
            assert list(provider.find({}, [])) == [as_found(world, machine)]

    def test_a_new_machine_has_a_boot_log(self, world: World) -> None:
        """The boot log of a machine that has just been launched is text, maybe none yet."""
        provider = world.provider()
        machine = provider.launch(world.order())
        assert isinstance(provider.boot_log(machine), str)

    def test_the_boot_log_of_a_machine_that_nobody_knows_is_empty(self, world: World) -> None:
        """Asking for the log of a forgotten machine is no error: it is asked on the way out."""
        provider = world.provider()
        assert provider.boot_log(_unknown(world, provider)) == ""

    def test_a_price_is_a_figure_or_none(self, world: World) -> None:
        """A price is never negative, says where it is from, and may be unknown."""
        provider = world.provider()
        price = provider.price(provider.launch(world.order()))
        assert price is None or (price.per_hour >= 0 and price.source)
        assert isinstance(price, Price | None)

    def test_checks_spend_nothing_and_hold_cures(self, world: World) -> None:
        """A preflight makes no machine; a check that fails says what to do."""
        provider = world.provider()
        checks = list(provider.check(world.order()))
        assert checks
        assert {type(check) for check in checks} == {Check}
        assert [check for check in checks if not check.ok and not check.cure] == []
        assert world.live() == 0

    def test_the_handle_holds_all(self, world: World) -> None:
        """A machine survives the way through an output, which GitHub drops if a mask matches it."""
        provider = world.provider()
        machine = provider.launch(world.order())
        text = to_handle([machine])
        assert from_handle(text) == (machine,)
        assert not re.search(r"\d{12}", text)

    def test_in_a_hurry_every_call_ends(self, world: World) -> None:
        """After hurry, no call takes longer than about two seconds, even if nobody answers."""
        provider = world.provider()
        machine = provider.launch(world.order())
        provider.hurry()
        world.hang()
        calls: list[Callable[[], object]] = [
            lambda: provider.release(machine),
            lambda: provider.state(machine),
            lambda: provider.find({}, []),
            lambda: provider.boot_log(machine),
            lambda: provider.price(machine),
        ]
        self.assert_within(IN_A_HURRY + 0.7, max(_seconds_of_each(calls)))


def _seconds_of_each(calls: list[Callable[[], object]]) -> list[float]:
    """Make the calls at the same time; each may end with a CloudError and with no other."""
    seconds: list[float] = []

    def measure(call: Callable[[], object]) -> None:
        began = time.monotonic()
        with contextlib.suppress(CloudError):
            call()
        seconds.append(time.monotonic() - began)

    threads = [threading.Thread(target=measure, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seconds) == len(calls)
    return seconds


def _unknown(world: World, provider: Provider) -> Machine:
    return Machine(
        provider=provider.name,
        id="i-0123456789abcdef0",
        tags=world.order(name="gpu-ci-nobody").tags,
        region=world.order().candidate.region,
        launched_at=LONG_AGO,
    )


def as_found(world: World, machine: Machine) -> Machine:
    """Return the machine as find tells it: without what only a cloud with tags can hold."""
    if world.tags_are_kept:
        return machine
    tags = Tags(
        name=machine.name,
        run_id=machine.tags.run_id,
        attempt=machine.tags.attempt,
        label="",
        repository="",
        key="",
        scope="",
    )
    return dataclasses.replace(machine, tags=tags, launched_at=0.0)


def _protocol_names(protocol: Any) -> set[str]:
    methods = {name for name in vars(protocol) if not name.startswith("_")}
    return methods | set(Provider.__annotations__)

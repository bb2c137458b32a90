"""A world for each provider: its cloud, offline, and the ways in which that cloud can fail."""

from __future__ import annotations

import functools
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import botocore.loaders
import botocore.session
import pytest
from tests.fakes import FakeClock

from gpu_ci.providers import Candidate, Order, Provider
from gpu_ci.providers.ec2.ec2_provider import Ec2
from gpu_ci.providers.ec2.launch_request import Ec2Options
from gpu_ci.providers.jarvislabs.jarvislabs_provider import JarvisLabs
from gpu_ci.providers.jarvislabs.options import JarvisLabsOptions
from gpu_ci.providers.local.local_provider import Local, LocalOptions
from gpu_ci.runtime.clock import SYSTEM_CLOCK
from gpu_ci_sandbox import faults as f
from gpu_ci_sandbox.contract import tags_of
from gpu_ci_sandbox.fake_aws import Aws
from gpu_ci_sandbox.fake_jarvislabs import JarvisLabs as Cloud

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gpu_ci.model.machine import Machine
    from gpu_ci_sandbox.contract import World


@pytest.fixture
def clock() -> FakeClock:
    """Begins now, since moto stamps by the real clock."""
    return FakeClock(time.time())


@pytest.fixture(scope="session", autouse=True)
def _sdk_reads_its_data_once() -> Iterator[None]:
    """Each new session of botocore reads 10 MB of JSON again; a process that rents makes one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            botocore.session, "create_loader", functools.cache(botocore.loaders.create_loader)
        )
        yield


@pytest.fixture(scope="session")
def served_aws() -> Iterator[Aws]:
    """One for all tests of a process: moto takes a second to load."""
    with Aws() as aws:
        yield aws


@pytest.fixture
def aws(served_aws: Aws, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> Aws:
    """An empty EC2 whose time is the test's clock, and an environment that points to it."""
    served_aws.reset()
    served_aws.settings.now = clock.now
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in served_aws.environment().items():
        monkeypatch.setenv(name, value)
    return served_aws


@dataclass
class Ec2World:
    """EC2 whose machines take an hour to boot."""

    aws: Aws
    clock: FakeClock
    options: Ec2Options = field(default_factory=Ec2Options)
    tags_are_kept: bool = True

    def provider(self) -> Provider:
        return Ec2(self.options, os.environ, self.clock)

    def order(self, index: int = 0, **tags: Any) -> Order:
        changed = tags_of(index, **tags)
        return Order(
            candidate=Candidate(type="g4dn.xlarge", region="us-east-1"),
            tags=changed,
            token=f"token-{changed.name}",
            boot_script="#!/bin/sh\necho booting\n",
        )

    def live(self) -> int:
        return len(self.aws.instances())

    def contacts(self) -> int:
        return len(self.aws.faults.requests)

    def lose_next_answer(self) -> None:
        self.aws.faults.add(f.lose_answer(action="RunInstances"))

    def break_a_region(self) -> bool:
        self.aws.settings.down.add("eu-west-1")
        return True

    def hang(self) -> None:
        self.aws.faults.add(f.hang(times=None))


@pytest.fixture
def ec2_world(aws: Aws, clock: FakeClock) -> Ec2World:
    aws.settings.boot_seconds = 3600
    return Ec2World(aws, clock)


@dataclass
class LocalWorld:
    """A folder and processes of this machine, which never fail to answer."""

    folder: Path
    tags_are_kept: bool = True

    def provider(self) -> Provider:
        return Local(LocalOptions(directory=str(self.folder)), os.environ, SYSTEM_CLOCK)

    def order(self, index: int = 0, **tags: Any) -> Order:
        changed = tags_of(index, **tags)
        return Order(
            candidate=Candidate(type="local"),
            tags=changed,
            token=f"token-{changed.name}",
            boot_script="echo booting\nexec sleep 60\n",
        )

    def live(self) -> int:
        return len(list(self.folder.glob("machines/*/machine.json")))

    def contacts(self) -> int:
        return self.live()

    def lose_next_answer(self) -> None:
        """There is no answer to lose: `launch` makes the machine itself."""

    def break_a_region(self) -> bool:
        return False

    def hang(self) -> None:
        """Nobody else is asked."""

    def machines(self) -> list[Machine]:
        return list(self.provider().find({}, []))


@pytest.fixture
def local_world(tmp_path: Path) -> Iterator[LocalWorld]:
    world = LocalWorld(tmp_path / "state")
    yield world
    for machine in world.machines():
        world.provider().release(machine)


@pytest.fixture(scope="session")
def served_jarvislabs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """One for all tests of a process."""
    with Cloud(tmp_path_factory.mktemp("jarvislabs")) as cloud:
        yield cloud


@pytest.fixture
def jarvislabs(served_jarvislabs: Cloud, clock: FakeClock) -> Iterator[Cloud]:
    """An empty account whose time is the test's clock, and which runs no scripts."""
    served_jarvislabs.reset()
    served_jarvislabs.settings.now = clock.now
    served_jarvislabs.settings.run_scripts = False
    yield served_jarvislabs
    served_jarvislabs.reset()


@dataclass
class JarvisLabsWorld:
    """JarvisLabs, which has no tags, no regions of the list, and machines that come up at once."""

    cloud: Cloud
    clock: FakeClock
    env: dict[str, str]
    options: JarvisLabsOptions = field(default_factory=JarvisLabsOptions)
    tags_are_kept: bool = False

    def provider(self) -> JarvisLabs:
        return JarvisLabs(self.options, self.env, self.clock)

    def order(self, index: int = 0, **tags: Any) -> Order:
        changed = tags_of(index, **tags)
        return Order(
            candidate=Candidate(type="L4", region="india-noida-01"),
            tags=changed,
            token=f"token-{changed.name}",
            boot_script="#!/bin/sh\necho booting\n",
        )

    def live(self) -> int:
        return len(self.cloud.machines())

    def contacts(self) -> int:
        return len(self.cloud.faults.requests)

    def lose_next_answer(self) -> None:
        self.cloud.faults.add(f.lose_answer(path="templates/.*/create"))

    def break_a_region(self) -> bool:
        return False  # one list has the machines of all regions

    def hang(self) -> None:
        self.cloud.faults.add(f.hang(times=None))


@pytest.fixture
def jarvislabs_world(jarvislabs: Cloud, clock: FakeClock) -> JarvisLabsWorld:
    return JarvisLabsWorld(jarvislabs, clock, jarvislabs.environment())


@pytest.fixture
def world(request: pytest.FixtureRequest) -> World:
    """The world of the provider that the test is parametrised with: the fixture `<name>_world`."""
    found: World = request.getfixturevalue(f"{request.param}_world")
    return found

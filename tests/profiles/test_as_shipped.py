"""Profiles with the shipped actions, over HTTP: start, stop, and a stranger's pull request."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from gpu_ci_sandbox.fake_github.credentials import job_token
from gpu_ci_sandbox.fake_github.openapi import assert_valid_requests
from gpu_ci_sandbox.world import REPOSITORY, World, open_world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gpu_ci_sandbox.action_step import Result

FILE = ".github/gpu-ci.yml"
BASE, HEAD = "b" * 40, "c" * 40


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A run with `permissions: contents: read`; in its base the profile `a` is this machine."""
    with open_world(tmp_path) as made:
        github = made.served.github
        made.run_token = github.issue(job_token(REPOSITORY, actions="write", contents="read"))
        github.contents.put(REPOSITORY, BASE, FILE, profiles(made))
        made.extra |= {"GITHUB_EVENT_NAME": "push", "GITHUB_SHA": BASE}
        yield made


def profiles(world: World, **more: str) -> str:
    options = json.loads(world.local_options())
    values = {"provider": "local", "gpus": 0, "provider-options": options, **more}
    return json.dumps({"profiles": {"a": values}})


def act(world: World, action: str, **inputs: str) -> Result:
    """Run a step that names the profile, and of a machine nothing else."""
    given = {"provider": "", "profile": "a"} | ({"gpus": ""} if action == "start" else {})
    return world.act(action, **given, **inputs)


def becomes_pull_request(world: World, head: str) -> None:
    """Have the run be of a pull request in which the profile asks for a dear machine."""
    dear = profiles(world, machine="p5.48xlarge")
    world.served.github.contents.put(REPOSITORY, HEAD, FILE, dear)
    file = world.folder / FILE
    file.parent.mkdir()
    file.write_text(dear)
    request: dict[str, Any] = {
        "base": {"sha": BASE, "repo": {"full_name": REPOSITORY}},
        "head": {"sha": HEAD, "repo": {"full_name": head}},
        "user": {"login": "mallory"},
    }
    event = world.folder / "event.json"
    event.write_text(json.dumps({"action": "labeled", "pull_request": request}))
    world.extra |= {
        "GITHUB_EVENT_NAME": "pull_request",
        "GITHUB_EVENT_PATH": str(event),
        "GITHUB_SHA": HEAD,
    }


def test_a_machine_comes_and_goes_by_its_profile_alone(world: World) -> None:
    """Neither step says more than the profile's name; the file is read from GitHub."""
    started = act(world, "start")
    assert started.exit_code == 0, started.log
    assert f"Profile a of {FILE} (bbbbbbb) gives provider, gpus, provider-options." in started.log
    assert len(world.machines()) == 1
    stopped = act(world, "stop", handle=started.outputs["handle"])
    assert stopped.exit_code == 0, stopped.log
    assert "gives provider, gpus, provider-options." in stopped.log
    assert (world.machines(), world.runner_names()) == ([], [])
    assert_valid_requests(world.served.faults.requests)


def test_a_stop_gives_back_by_its_handle_what_no_profile_describes_any_more(world: World) -> None:
    """The file is gone by then, and the machine is given back all the same (pain 1)."""
    started = act(world, "start")
    assert started.exit_code == 0, started.log
    world.extra["GITHUB_SHA"] = "d" * 40
    here = {"provider_options": world.local_options()}
    stopped = act(world, "stop", handle=started.outputs["handle"], **here)
    assert stopped.exit_code == 0, stopped.log
    assert "::warning::The profile is not used" in stopped.log
    assert (world.machines(), world.runner_names()) == ([], [])


def test_a_strangers_pull_request_gets_no_dearer_machine(world: World) -> None:
    """Its change of the profile does not count, in the workspace or at its commit (pain 47)."""
    becomes_pull_request(world, "mallory/science")
    planned = act(world, "start", dry_run="true")
    assert planned.exit_code == 0, planned.log
    assert f"Profile a of {FILE} of the base (bbbbbbb) gives" in planned.log
    assert "  1. local" in planned.log
    assert "p5.48xlarge" not in planned.log


def test_who_may_push_can_try_another_machine(world: World) -> None:
    """In a pull request of the repository itself the changed profile is planned with."""
    becomes_pull_request(world, REPOSITORY)
    planned = act(world, "start", dry_run="true")
    assert "  1. p5.48xlarge" in planned.log
    assert planned.exit_code == 3, planned.log


def test_a_private_repository_without_the_right_says_which(world: World) -> None:
    """One paragraph with the cure, and nothing is rented."""
    github = world.served.github
    world.run_token = github.issue(job_token(REPOSITORY, actions="write"))
    refused = act(world, "start", github_token=world.run_token)
    assert refused.exit_code == 10, refused.log
    (error,) = [line for line in refused.log.splitlines() if line.startswith("::error::")]
    assert "permissions: contents: read" in error
    assert world.machines() == []

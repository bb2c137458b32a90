"""What providers say about themselves, and what is derived from it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from gpu_ci.inputs.reader import CARRY_SECRETS
from gpu_ci.profiles.keys import SECRETS
from gpu_ci.providers import PROVIDERS, provider_class

if TYPE_CHECKING:
    from gpu_ci.providers.about import About

ROOT = Path(__file__).parents[2]
CANNOT_END = [about for about in PROVIDERS.values() if not about.ends_itself]


def test_all_are_known_before_one_is_loaded() -> None:
    """Each step masks the secrets of all: that loads their declarations, and no class."""
    program = (
        "import sys\n"
        "from gpu_ci.inputs.reader import CARRY_SECRETS\n"
        "list(CARRY_SECRETS)\n"
        "print(*(each for each in sys.modules if each.startswith('gpu_ci.providers.')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(ROOT / "shared")},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    declared = {f"gpu_ci.providers.{name}" for name in (*PROVIDERS, "about", "entry_points")}
    assert set(done.stdout.split()) == declared


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_declaration_is_of_the_class_that_it_names(provider: str) -> None:
    """And stands in the package of its provider."""
    found = provider_class(provider)
    assert (found.about, found.name) == (PROVIDERS[provider], provider)
    assert found.__module__.startswith(f"gpu_ci.providers.{provider}.")


@pytest.mark.parametrize("provider", PROVIDERS)
def test_its_secrets_are_masked_and_kept_out_of_profiles(provider: str) -> None:
    """Each of them, required or not."""
    secrets = PROVIDERS[provider].secrets
    assert set(secrets) <= set(CARRY_SECRETS)
    assert {name.lower().replace("_", "-") for name in secrets} <= set(SECRETS)


def test_there_is_one_whose_machines_cannot_end_themselves() -> None:
    """Or the tests of the promise's exception would look at nothing."""
    assert CANNOT_END


@pytest.mark.parametrize("name", ["max-lifetime-minutes", "idle-minutes"])
@pytest.mark.parametrize("about", CANNOT_END, ids=lambda about: str(about.name))
def test_the_inputs_that_end_a_machine_name_where_they_do_not(about: About, name: str) -> None:
    """In the action and in each workflow that takes them."""
    descriptions = list(described(name))
    assert descriptions
    assert [
        text for text in descriptions if f"at {about.title} only its runner ends" not in text
    ] == []


def described(name: str) -> list[str]:
    """Return what each file with the input says of it."""
    action = yaml.safe_load((ROOT / "action-start" / "action.yml").read_text())
    found = [action["inputs"][name]["description"]]
    for path in ROOT.glob(".github/workflows/*.yml"):
        called = (yaml.safe_load(path.read_text())[True] or {}).get("workflow_call") or {}
        if name in called.get("inputs", {}):
            found.append(called["inputs"][name]["description"])
    return found


@pytest.mark.parametrize("page", ["README.md", "docs/guarantees.md"])
@pytest.mark.parametrize("about", CANNOT_END, ids=lambda about: str(about.name))
def test_the_promise_names_its_exceptions(about: About, page: str) -> None:
    """A machine that cannot end itself is billed until the next stop: the page that promises that
    machines end has to say where."""
    text = " ".join((ROOT / page).read_text().split())
    assert re.search(rf"A machine at {about.title}[^.]* cannot end itself", text)


def test_nothing_names_a_provider_that_can_as_one_that_cannot() -> None:
    """A promise that is kept is not taken back."""
    for about in PROVIDERS.values():
        if about.ends_itself:
            text = " ".join((ROOT / "docs" / "guarantees.md").read_text().split())
            assert not re.search(rf"A machine at {about.title}[^.]* cannot end itself", text)

"""Providers of other packages: found by their entry points, and never in the way of ours."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from tests.fakes import start_env

from gpu_ci.errors import BadInputs, EnvironmentBroken
from gpu_ci.inputs.reader import CARRY_SECRETS
from gpu_ci.inputs.start_inputs import StartInputs
from gpu_ci.providers import PROVIDERS, about, is_provider, provider_class, provider_names
from gpu_ci.providers.ec2.ec2_provider import Ec2

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MODULE = """\
from dataclasses import dataclass

from gpu_ci.providers.about import About, Secret
from gpu_ci.providers.defaults import Defaults


@dataclass(frozen=True, kw_only=True)
class Options:
    user: str = "gpu-ci"


class Acme(Defaults):
    about = About(
        name="acme",
        title="Acme",
        ends_itself=True,
        secrets={"ACME_KEY": Secret(words="the key of Acme", required=True)},
    )
    name = "acme"
    Options = Options
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Install packages that offer providers, until the test is over."""

    def do(package: str, entry: str, module: str = MODULE) -> None:
        site = tmp_path / package
        info = site / f"{package}-1.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n")
        (info / "entry_points.txt").write_text(f"[gpu_ci.providers]\n{entry}\n")
        (site / f"{package}_module.py").write_text(module)
        monkeypatch.syspath_prepend(site)
        # Each test's module is its own.
        monkeypatch.delitem(sys.modules, f"{package}_module", raising=False)

    return do


def test_a_provider_of_another_package_is_one(install: Callable[..., None]) -> None:
    """Its name is taken by the inputs, and its class is made."""
    assert not is_provider("acme")
    install("one", "acme = one_module:Acme")
    assert is_provider("acme")
    assert provider_names()[-1] == "acme"
    assert about("acme").title == "Acme"
    inputs = StartInputs.read(start_env(provider="acme") | {"ACME_KEY": "k"})
    assert (inputs.provider, inputs.provider_options.user) == ("acme", "gpu-ci")
    assert provider_class("acme").__module__ == "one_module"


def test_its_missing_secret_is_named(install: Callable[..., None]) -> None:
    """As that of any provider."""
    install("one", "acme = one_module:Acme")
    with pytest.raises(BadInputs, match="ACME_KEY is not set: it has to come from a secret"):
        StartInputs.read(start_env(provider="acme"))


def test_its_secrets_are_masked_with_ours(install: Callable[..., None]) -> None:
    """Before anything prints, whether a step names it or not."""
    assert "ACME_KEY" not in set(CARRY_SECRETS)
    install("one", "acme = one_module:Acme")
    assert "ACME_KEY" in set(CARRY_SECRETS)


def test_a_name_of_ours_cannot_be_taken(install: Callable[..., None]) -> None:
    """What is installed beside cannot come between a step and its cloud; it is not even loaded."""
    install("one", "ec2 = one_module:Acme", "raise SystemError('loaded')")
    assert provider_class("ec2") is Ec2
    assert provider_names().count("ec2") == 1
    assert "AWS_ACCESS_KEY_ID" in set(CARRY_SECRETS)
    assert "one_module" not in sys.modules


@pytest.mark.parametrize(
    ("entry", "module", "why"),
    [
        ("acme = one_module:Acme", "import no_such_sdk", "ModuleNotFoundError"),
        ("acme = one_module:Acme", "raise RuntimeError('as it loads')", "as it loads"),
        ("acme = one_module:Amce", MODULE, "Amce"),
        ("acme = one_module:Options", MODULE, "has no `about`"),
        ("amce = one_module:Acme", MODULE, "its `about` has the name 'acme'"),
    ],
)
def test_one_that_cannot_be_loaded_is_named_with_its_cure(
    install: Callable[..., None], entry: str, module: str, why: str
) -> None:
    """A step that names it ends with the package, the reason, and what to do."""
    install("one", entry, module)
    with pytest.raises(EnvironmentBroken) as caught:
        StartInputs.read(start_env(provider=entry.split(maxsplit=1)[0]))
    text = str(caught.value)
    assert why in text
    assert "of the package one" in text
    assert "Correct its entry point in the group gpu_ci.providers" in text


def test_one_that_cannot_be_loaded_stops_no_other_step(install: Callable[..., None]) -> None:
    """A stop at another cloud must go on: a machine is billed."""
    install("one", "acme = one_module:Acme", "raise RuntimeError('as it loads')")
    assert "JL_API_KEY" in set(CARRY_SECRETS)
    assert StartInputs.read(start_env(provider="local")).provider == "local"


def test_two_packages_with_one_name_are_told_apart_by_their_user(
    install: Callable[..., None],
) -> None:
    """Neither is taken: the other might have been meant."""
    install("one", "acme = one_module:Acme")
    install("two", "acme = two_module:Acme")
    with pytest.raises(EnvironmentBroken, match="offered by one and two"):
        provider_class("acme")


def test_an_unknown_name_lists_those_of_other_packages(install: Callable[..., None]) -> None:
    """Whoever misspells it sees that it is there."""
    install("one", "acme = one_module:Acme")
    with pytest.raises(BadInputs, match=f"it must be one of {', '.join(PROVIDERS)}, acme"):
        StartInputs.read(start_env(provider="amce"))

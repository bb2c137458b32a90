"""The page about a cloud of one's own: its package is a provider, and keeps the contract."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import pytest
from tests.docs.own_provider import FILES, ROOT, install, passed, python, save

from gpu_ci_sandbox.contract import ProviderContract

if TYPE_CHECKING:
    from pathlib import Path

PROMISES = [name for name, _ in inspect.getmembers(ProviderContract) if name.startswith("test_")]
HERE = (ROOT / "shared", ROOT / "sandbox")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repository with the page's files, whose package is installed."""
    save(tmp_path)
    install(tmp_path)
    return tmp_path


def test_the_page_is_a_whole_repository() -> None:
    """The package, its class, its tests, and a workflow."""
    assert set(FILES) == {
        "pyproject.toml",
        "gpu_ci_acme/__init__.py",
        "tests/conftest.py",
        "tests/test_acme.py",
        "gpu-ci-requirements.txt",
        ".github/workflows/gpu.yml",
    }


@pytest.mark.timeout(400)
def test_the_test_of_the_page_passes(folder: Path) -> None:
    """Every promise of the contract is looked at."""
    asked = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "tests"]
    assert passed(python(folder, asked, folder, *HERE)) == len(PROMISES)


@pytest.mark.timeout(400)
def test_the_test_of_the_page_finds_a_twin(folder: Path) -> None:
    """A launch that does not look first makes two machines of one order: the test fails."""
    module = folder / "gpu_ci_acme" / "__init__.py"
    text = module.read_text()
    assert "row or self._made(order)" in text
    module.write_text(text.replace("row or self._made(order)", "self._made(order)"))
    asked = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "same_order", "tests"]
    done = python(folder, asked, folder, *HERE)
    assert (done.returncode, "1 failed" in done.stdout) == (1, True), done


def test_an_action_takes_the_provider_of_the_page(folder: Path) -> None:
    """By its name, with its secret masked and asked for."""
    program = (
        "import os, sys\n"
        "from gpu_ci.inputs.reader import CARRY_SECRETS\n"
        "from gpu_ci.inputs.start_inputs import StartInputs\n"
        "env = {'INPUT_PROVIDER': 'acme', 'INPUT_GITHUB_TOKEN': 't', 'ACME_API_KEY': 'k'}\n"
        "env['GITHUB_REPOSITORY'] = 'octo/widgets'\n"
        "print(StartInputs.read(env).provider_options, 'ACME_API_KEY' in set(CARRY_SECRETS))\n"
    )
    done = python(folder, ["-c", program], folder, *HERE)
    assert (done.stdout, done.stderr) == ("AcmeOptions(user='gpu-ci') True\n", "")


@pytest.mark.timeout(400)
def test_the_code_of_the_page_is_sound(folder: Path) -> None:
    """A template is copied: it passes the strictest type check, and has no unused name."""
    for name in ("gpu_ci_acme", "tests"):
        found = python(folder, ["-m", "ruff", "check", "--isolated", "-q", name])
        assert found.returncode == 0, found.stdout
    found = python(
        folder, ["-m", "mypy", "--strict", "--cache-dir", "mypy-cache", "gpu_ci_acme"], *HERE
    )
    assert found.returncode == 0, found.stdout

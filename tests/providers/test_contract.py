"""The contract of a provider, held by each that this package has."""

from __future__ import annotations

import pytest

from gpu_ci.providers import PROVIDERS
from gpu_ci_sandbox.contract import ProviderContract


@pytest.mark.parametrize("world", PROVIDERS, indirect=True)
class TestEachProvider(ProviderContract):
    """A new one joins by a fixture `<name>_world` in conftest.py."""

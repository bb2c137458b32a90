"""The contract of a provider, held by each that this package has."""

from __future__ import annotations

import pytest
from tests.pace import assert_within

from gpu_ci.providers import PROVIDERS
from gpu_ci_sandbox.contract import ProviderContract


@pytest.mark.parametrize("world", PROVIDERS, indirect=True)
class TestEachProvider(ProviderContract):
    """A new one joins by a fixture `<name>_world` in conftest.py."""

    def assert_within(self, promised: float, took: float) -> None:
        """A busy machine has the multiple of the promised time by which it is slower."""
        assert_within(promised, took)

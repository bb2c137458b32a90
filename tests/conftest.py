"""How the whole suite is run."""

from __future__ import annotations

import os
import signal
import sysconfig
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from tests.fakes import nothing_missed

from gpu_ci.runtime import redaction
from gpu_ci_sandbox.fake_aws import MOTO_SETTINGS

if TYPE_CHECKING:
    from collections.abc import Generator

# The contract's assertions tell as much as those of a test file.
pytest.register_assert_rewrite("gpu_ci_sandbox.contract")
# The programs that tests start are installed beside the interpreter, which can be called by its path
# while that folder is not on PATH.
PROGRAMS = sysconfig.get_path("scripts")
if PROGRAMS not in os.get_exec_path():
    os.environ["PATH"] = os.pathsep.join([PROGRAMS, *os.get_exec_path()])
# moto reads these when it is imported, by whichever test comes first.
os.environ.update(MOTO_SETTINGS)
# A shell's background jobs ignore these, and what they start would too; tests send them.
for ignored, handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGQUIT, signal.SIG_DFL),
):
    if signal.getsignal(ignored) is signal.SIG_IGN:
        signal.signal(ignored, handler)
# The same examples in every run; `--hypothesis-profile=default` looks for new ones.
settings.register_profile("suite", derandomize=True, deadline=None)
settings.load_profile("suite")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes minutes; run by `sh shared/run check -m slow`")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what takes minutes, unless it is asked for."""
    if "slow" not in config.option.markexpr:
        skip = pytest.mark.skip(reason="takes minutes: sh shared/run check -m slow")
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(skip)


def pytest_xdist_auto_num_workers() -> int:
    """Two workers a core for `-n auto`: most tests wait rather than compute."""
    return 2 * len(os.sched_getaffinity(0))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    """Fail a test that ends before an event that it planned: its assertions may prove nothing."""
    with nothing_missed():
        return (yield)


@pytest.fixture(autouse=True)
def _no_secret_of_another_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process knows its secrets to its end; here it runs many tests, some with secrets like "t"."""
    monkeypatch.setattr(redaction, "_known", set())

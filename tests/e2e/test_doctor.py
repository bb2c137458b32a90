"""`doctor` and `dry-run`: everything is looked at, nothing is spent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gpu_ci_sandbox.faults import aws_error

if TYPE_CHECKING:
    from tests.e2e.conftest import Cloud

WRITES = {"RunInstances", "POST generate-jitconfig"}


def test_all_well(cloud: Cloud) -> None:
    """A line for each check, all ok; the only create call asked for is a dry run."""
    assert cloud.run("start", gpus="0", dry_run="true") == 0, cloud.told()
    lines = [line for line in cloud.told().splitlines() if line.startswith(("ok", "FAIL"))]
    assert all(line.startswith("ok") for line in lines), cloud.told()
    checked = " ".join(lines)
    for what in ("GitHub", "Runner name", "credentials", "image", "network", "quota", "price"):
        assert what in checked
    assert cloud.aws.instances(live=False) == []
    assert cloud.left() == []


@pytest.mark.parametrize(
    ("code", "action", "cure"),
    [
        ("UnauthorizedOperation", "RunInstances", "ec2:RunInstances"),
        ("AuthFailure", "GetCallerIdentity", "credentials"),
    ],
)
def test_what_is_wrong_has_its_cure(cloud: Cloud, code: str, action: str, cure: str) -> None:
    """A failed check is one line with its cure, and the exit code says so."""
    cloud.aws.faults.add(aws_error(code, "no", status=403, action=action, times=None))
    assert cloud.run("start", gpus="0", dry_run="true") == 3
    failed = [line for line in cloud.told().splitlines() if line.startswith("FAIL")]
    assert failed
    assert any(cure in line for line in failed), cloud.told()
    assert cloud.aws.instances(live=False) == []


def test_a_taken_name_is_told(cloud: Cloud) -> None:
    """The registration of a killed start of the same job is seen before it gets in the way."""
    assert cloud.run("start", gpus="0") == 0, cloud.told()
    assert cloud.run("start", gpus="0", dry_run="true") == 3
    assert "is taken" in cloud.told()

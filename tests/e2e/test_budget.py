"""The shipped start with a budget, the shipped stop's ledger, and what `gpu-ci cost` makes of it."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from gpu_ci import cli
from gpu_ci.ledger.entry import Entry
from gpu_ci_sandbox.fake_github.credentials import fine_grained, job_token
from gpu_ci_sandbox.fake_github.openapi import assert_valid_requests
from gpu_ci_sandbox.world import REPOSITORY

if TYPE_CHECKING:
    import pytest
    from tests.e2e.conftest import Box, Cloud

    from gpu_ci_sandbox.action_step import Result

EC2 = {"provider": "ec2", "region": "us-east-1", "machine": "g4dn.xlarge"}
# What g4dn.xlarge costs at the stand-in, for the six hours that a machine may live.
START = "3.16"


def start(cloud: Cloud, **inputs: str) -> Result:
    """Run the step of a start, as its job would."""
    cloud.world.extra |= cloud.environment()
    return cloud.world.act("start", **EC2, **inputs)


def launched(cloud: Cloud) -> list[str]:
    return [each for each in cloud.calls() if each == "RunInstances"]


def test_a_run_keeps_to_its_budget(cloud: Cloud) -> None:
    """The first start passes and says its figures; a second one beside it would be too much, is
    refused with what would pass, and nothing is launched or registered for it."""
    first = start(cloud, budget="5/run")
    assert first.exit_code == 0, first.log
    told = (
        f"This start may cost {START} USD (a machine at 0.526 USD/h, AWS price list of 2026-11-20,"
    )
    assert told in first.log
    assert "within the budget of 5/run." in first.log
    second = start(cloud, budget="5/run", key="second")
    assert second.exit_code == 46, second.log
    assert (
        f"and the rest of the run {START} USD, 6.31 USD in all: more than the budget" in second.log
    )
    cure = re.search(r"max-lifetime-minutes: (\d+) would pass", second.log)
    assert cure
    assert 205 <= int(cure[1]) <= 211
    assert len(launched(cloud)) == 1
    assert len(cloud.world.runner_names()) == 1
    assert_valid_requests(cloud.world.served.faults.requests)


def test_a_month_keeps_to_its_budget(
    cloud: Cloud, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the stop has left counts for the next run, and `gpu-ci cost` shows the same."""
    first = start(cloud)
    machine = first.outputs["runner-name"]
    run_job(cloud, machine)
    stop = cloud.world.act("stop", provider="ec2", handle=first.outputs["handle"])
    assert stop.exit_code == 0, stop.log
    (note,) = [
        note for note in cloud.world.served.github.annotations[cloud.world.stop_job] if note.title
    ]
    entry = Entry.read(note.message)
    assert entry is not None
    assert entry.split is not None
    assert (entry.machine, str(entry.seconds)) == (machine, stop.outputs["billed-seconds"])
    assert stop.outputs["hosted-minutes"] == "2"
    parts = [int(stop.outputs[f"{part}-seconds"]) for part in ("boot", "work", "idle")]
    assert sum(parts) == entry.seconds
    cloud.world.end_run()
    cloud.world.next_run()
    second = start(cloud, budget=f"{START}/month", max_lifetime_minutes="359")
    assert second.exit_code == 0, second.log
    assert "and the rest of the month 0.00 USD," in second.log
    monkeypatch.setenv("GITHUB_TOKEN", cloud.world.token)
    monkeypatch.delenv("GITHUB_OUTPUT", raising=False)
    url = cloud.world.served.url
    assert cli.main(["cost", "--repository", REPOSITORY, "--github-api-url", url]) == 0
    assert f"In all: {entry.cost:.4f} USD, of 2 runs" in capsys.readouterr().out


def run_job(cloud: Cloud, machine: str) -> None:
    """Let a job begin on the machine's runner now."""
    github = cloud.world.served.github
    job = github.queue_job(cloud.world.run_id, "test", ["gpu"])
    github.set_job(job.id, status="in_progress", runner_name=machine)
    github.set_job(job.id, conclusion="success")
    time.sleep(0.01)


def test_what_cannot_be_looked_up_is_refused(cloud: Cloud) -> None:
    """An unknown price, and a ledger that the token may not read: nothing is launched."""
    cloud.aws.settings.prices.clear()
    unpriced = start(cloud, budget="100/run")
    assert unpriced.exit_code == 47
    assert "No price is known for g4dn.xlarge us-east-1 on-demand" in unpriced.log
    cloud.aws.reset()
    github = cloud.world.served.github
    cloud.world.token = github.issue(fine_grained(REPOSITORY, administration="write"))
    cloud.world.run_token = github.issue(job_token(REPOSITORY))
    poor = start(cloud, budget="100/month")
    assert poor.exit_code == 47, poor.log
    assert "What this month has cost so far cannot be read" in poor.log
    assert "`permissions: actions: read` and `checks: read`" in poor.log
    assert launched(cloud) == []


def test_the_doctor_looks_at_the_budget_too(cloud: Cloud) -> None:
    """It rents nothing, and fails as the start would."""
    inputs = EC2 | {"gpus": "0", "dry_run": "true"}
    assert cloud.run("start", **inputs, budget="3/run") == 46, cloud.told()
    assert cloud.run("start", **inputs, budget="4/run, 4/month") in {0, 3}, cloud.told()
    assert cloud.told().count("within the budget of 4/") == 2
    assert cloud.left() == []


def test_a_kept_machine_keeps_to_its_budget(box: Box) -> None:
    """By the type that it has: refused above, paused as it was; resumed below."""
    box.world.extra |= box.environment()
    given = {"provider": "jarvislabs", "machine_name": "gpu-box", "max_lifetime_minutes": "60"}
    refused = box.world.act("start", **given, budget="0.01/run")
    assert refused.exit_code == 46, refused.log
    assert box.status() == "Paused"
    assert box.world.runner_names() == []
    passed = box.world.act("start", **given, budget="100/run, 100/month")
    assert passed.exit_code == 0, passed.log
    assert "JarvisLabs' catalogue of 20" in passed.log


def test_a_machine_of_jarvislabs_for_one_run_keeps_to_its_budget(box: Box) -> None:
    """A cloud without tags: what lives in the run is known by its name, and counts for as long as
    ours may live."""
    box.world.extra |= box.environment()
    given = {"provider": "jarvislabs", "machine": "L4", "max_lifetime_minutes": "60"}
    first = box.world.act("start", **given, budget="0.80/run")
    assert first.exit_code == 0, first.log
    assert "L4 europe-01 on-demand is left out: its price is not known" in first.log
    assert "This start may cost 0.44 USD" in first.log
    second = box.world.act("start", **given, budget="0.80/run", key="second")
    assert second.exit_code == 46, second.log
    assert "and the rest of the run 0.44 USD," in second.log
    assert len(box.world.runner_names()) == 1

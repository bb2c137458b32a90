"""What users of such machines suffer from, shown with whole starts and stops."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from tests.e2e.conftest import HOUR

from gpu_ci_sandbox.faults import Match, Rule, answer, aws_error, drop, garble

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.conftest import Cloud

NO_CAPACITY = "InsufficientInstanceCapacity"


def run_calls(cloud: Cloud) -> list[dict[str, str]]:
    return [r.form for r in cloud.aws.faults.requests if r.action == "RunInstances"]


# A. Money and hangs


def test_no_capacity_goes_on_to_the_next_candidate(cloud: Cloud) -> None:
    """No capacity, wrong zone, spot empty (pain 8): the next way is tried, with its own token."""
    cloud.aws.faults.add(
        aws_error(NO_CAPACITY, "none here", status=500, action="RunInstances", times=None,
                  body="InstanceType=g5.xlarge"),
    )  # fmt: skip
    code = cloud.run(
        "start", gpus="0", machine="g5.xlarge, g4dn.xlarge", market="spot-then-on-demand"
    )
    assert code == 0, cloud.told()
    assert cloud.output("machine-type") == "g4dn.xlarge"
    assert cloud.output("market") == "spot"
    tokens: dict[tuple[str | None, ...], set[str]] = {}
    for form in run_calls(cloud):
        asked = (form["InstanceType"], form.get("Placement.AvailabilityZone"),
                 form.get("InstanceMarketOptions.MarketType"))  # fmt: skip
        tokens.setdefault(asked, set()).add(form["ClientToken"])
    assert len(tokens) > 3
    assert all(len(each) == 1 for each in tokens.values())
    assert len({token for each in tokens.values() for token in each}) == len(tokens)
    assert "g5.xlarge us-east-1 spot" in cloud.log.with_suffix(".summary").read_text()


def test_no_capacity_anywhere_leaves_nothing(cloud: Cloud) -> None:
    """No capacity at all (pain 8): red, with what was tried, no machine and no queued runner."""
    cloud.aws.faults.add(
        aws_error(NO_CAPACITY, "none here", status=500, action="RunInstances", times=None)
    )
    assert cloud.run("start", gpus="0", machine="g5.xlarge,g4dn.xlarge") == 20
    assert "g4dn.xlarge us-east-1" in cloud.told()
    assert "Name more types under machine" in cloud.told()
    assert cloud.left() == []


def test_quota_stops_at_once_with_the_cure(cloud: Cloud) -> None:
    """Quota is 0 or tiny (pain 30): no candidate loop on the same quota, the quota is named."""
    cloud.aws.faults.add(
        aws_error("VcpuLimitExceeded", "limit of 0", action="RunInstances", times=None)
    )
    assert cloud.run("start", gpus="0", machine="g5.xlarge,g4dn.xlarge") == 21
    assert len(run_calls(cloud)) == 1
    assert "L-DB2E81BA" in cloud.told()
    assert cloud.left() == []


def test_several_machines_are_all_or_none(cloud: Cloud) -> None:
    """With count 3 and no room for the third, the first two are given back."""
    cloud.aws.faults.add(
        aws_error("VcpuLimitExceeded", "limit of 8", action="RunInstances", nth=3, times=None)
    )
    assert cloud.run("start", gpus="0", count="3") == 21
    assert len(cloud.aws.instances(live=False)) == 2
    assert cloud.left() == []


def test_several_machines_have_labels_of_their_own(cloud: Cloud) -> None:
    """Runner gets somebody else's job (pain 16): no label is another's, or part of another's set."""
    assert cloud.run("start", gpus="0", count="3", labels="gpu, big") == 0, cloud.told()
    labels = json.loads(cloud.output("labels"))
    runners = cloud.world.served.github.all_runners()
    sets = [{label.name for label in runner.labels} for runner in runners]
    assert len(set(labels)) == 3
    for label in labels:
        assert sum(label in each for each in sets) == 1
    assert all({"gpu", "big"} < each for each in sets)
    cloud.start_job_is_over()
    assert cloud.run("stop", handle=cloud.output("handle")) == 0, cloud.told()
    assert cloud.left() == []


def test_two_starts_of_one_run_do_not_end_each_other(cloud: Cloud) -> None:
    """A stop that was told nothing leaves what a job still needs (pains 9, 16)."""
    assert cloud.run("start", gpus="0", key="a") == 0, cloud.told()
    first = cloud.output("label")
    assert cloud.run("start", gpus="0", key="b") == 0, cloud.told()
    cloud.start_job_is_over()
    github = cloud.world.served.github
    job = github.queue_job(cloud.world.run_id, "test a", [first])
    assert cloud.run("stop") == 0, cloud.told()
    assert len(cloud.aws.instances()) == 1
    assert [name for name in cloud.world.runner_names() if first.startswith(name)]
    assert "asks for its label" in cloud.told()
    github.set_job(job.id, status="completed", conclusion="success")
    assert cloud.run("stop") == 0, cloud.told()
    assert cloud.left() == []


def test_a_busy_runner_is_not_taken_for_idle(cloud: Cloud) -> None:
    """A working runner is killed because it looked idle (pain 9): busy means hands off."""
    assert cloud.run("start", gpus="0") == 0, cloud.told()
    cloud.start_job_is_over()
    runner = cloud.world.served.github.all_runners()[0]
    busy = cloud.world.served.github.queue_job(cloud.world.run_id, "elsewhere", ["other"])
    cloud.world.served.github.set_job(busy.id, status="completed", conclusion="success")
    cloud.world.served.github.set_runner(runner.id, job_id=busy.id)
    assert cloud.run("stop") == 0, cloud.told()
    assert len(cloud.aws.instances()) == 1
    assert "running a job" in cloud.told()


# B. Registration and tokens


TROUBLES: dict[str, Callable[..., Rule]] = {"broken": garble, "reset": drop}


@pytest.mark.parametrize("fault", ["401", "403", "500", "broken", "reset"])
def test_trouble_is_never_taken_for_gone(cloud: Cloud, fault: str) -> None:
    """Errors swallowed as "not found" (pain 13): stop is red, and the machine is given back."""
    assert cloud.run("start", gpus="0") == 0, cloud.told()
    cloud.start_job_is_over()
    match: Match = {"path": "actions/runners", "times": None}
    rule = TROUBLES[fault](**match) if fault in TROUBLES else answer(int(fault), {}, **match)
    cloud.world.served.faults.add(rule)
    assert cloud.run("stop", handle=cloud.output("handle")) == 40
    assert cloud.aws.instances() == []
    assert "could not be removed" in cloud.told()
    cloud.world.served.faults.clear()
    assert cloud.run("stop") == 0, cloud.told()
    assert cloud.left() == []


def test_cloud_trouble_does_not_keep_the_registration(cloud: Cloud) -> None:
    """Credentials expired by the time of stop: the other half is done, and the failure is loud."""
    assert cloud.run("start", gpus="0") == 0, cloud.told()
    cloud.start_job_is_over()
    cloud.aws.faults.add(
        aws_error("RequestExpired", "expired", action="TerminateInstances", times=None)
    )
    assert cloud.run("stop", handle=cloud.output("handle")) == 40
    assert cloud.world.runner_names() == []
    assert "could not be given back" in cloud.told()


def test_a_lost_registration_answer_makes_no_twin(cloud: Cloud) -> None:
    """Lost answer to a create call (pain 14): one registration and one machine in the end."""
    cloud.world.served.faults.add(
        answer(502, "bad gateway", path="generate-jitconfig", nth=1),
    )
    assert cloud.run("start", gpus="0") == 0, cloud.told()
    assert len(cloud.world.runner_names()) == 1
    assert len(cloud.aws.instances()) == 1


def test_dead_registrations_of_others_are_left(cloud: Cloud) -> None:
    """Dead registrations pile up (pain 15): among 250, stop removes its run's own and no other."""
    github = cloud.world.served.github
    repository = "octo-org/science"
    foreign = [f"old-box-{n}" for n in range(245)] + [f"gpu-ci-777-1-x-{n}" for n in range(5)]
    for name in foreign:
        github.register(repository, name, [name])
    assert cloud.run("start", gpus="0") == 0, cloud.told()
    cloud.start_job_is_over()
    for instance in cloud.aws.instances():
        cloud.aws.end(instance.id, "Server.SpotInstanceTermination")
    assert cloud.run("stop") == 0, cloud.told()
    assert sorted(cloud.world.runner_names()) == sorted(foreign)


@pytest.mark.parametrize("code", [401, 403, 404])
def test_a_token_without_the_right_costs_nothing(cloud: Cloud, code: int) -> None:
    """404/403 on token endpoints (pain 17): said before any cloud call, with the cure."""
    cloud.world.served.faults.add(
        answer(code, {"message": "Not Found"}, path="downloads", times=None)
    )
    assert cloud.run("start", gpus="0") == 10
    assert cloud.aws.faults.requests == ()
    cure = "revoked or expired" if code == 401 else "needs the scope `repo`"
    assert cure in cloud.told()


def test_a_limit_beyond_the_deadline_fails_at_once(cloud: Cloud) -> None:
    """Rate limits (pain 18): reset after our deadline, so it fails now and gives the machine back."""
    cloud.aws.settings.on_boot = None
    reset = str(int(time.time()) + 2 * HOUR)
    cloud.world.served.faults.add(
        answer(403, {"message": "API rate limit exceeded"}, path=r"runners/\d+$", method="GET",
               headers={"x-ratelimit-remaining": "0", "x-ratelimit-reset": reset}, times=None)
    )  # fmt: skip
    # An hour: one that waited would not end in this test's time.
    assert cloud.run("start", gpus="0", online_timeout_minutes="60") == 12
    assert "used up what GitHub allows" in cloud.told()
    assert cloud.left() == []


def test_a_burst_of_502_is_sat_out(cloud: Cloud) -> None:
    """5xx bursts at registration (pain 19): three bad answers, then a runner."""
    cloud.world.served.faults.add(answer(502, "", path="generate-jitconfig", times=3))
    assert cloud.run("start", gpus="0") == 0, cloud.told()
    assert len(cloud.world.runner_names()) == 1


def test_a_lasting_503_leaves_no_machine(cloud: Cloud) -> None:
    """5xx bursts at registration (pain 19): one that lasts is red, and nothing was rented."""
    cloud.world.served.faults.add(answer(503, "", path="generate-jitconfig", times=None))
    assert cloud.run("start", gpus="0") == 13
    assert cloud.aws.instances(live=False) == []
    assert cloud.left() == []


# C. GPU and machine


def test_never_online_shows_the_phase_and_the_log(cloud: Cloud) -> None:
    """Runner never registers, only "timeout" is shown (pain 3): phase, log, cure, nothing left."""

    def boot(instance_id: str, _: str) -> None:
        cloud.aws.set_console(
            instance_id, "gpu-ci boot 1790000000 phase download\nno route to host\n"
        )
        cloud.hour_passes_at("GetConsoleOutput", "before")

    cloud.aws.settings.on_boot = boot
    assert cloud.run("start", gpus="0") == 32, cloud.told()
    assert "Its last phase was download" in cloud.told()
    assert "no route to host" in cloud.told()
    assert cloud.left() == []


def test_a_boot_that_fails_does_not_wait_out_the_clock(cloud: Cloud) -> None:
    """A failed boot ends the start when its log is read (pain 3), with the script's own reason."""
    cloud.aws.settings.on_boot = lambda instance_id, _: cloud.aws.set_console(
        instance_id, "gpu-ci boot 1790000000 failed libraries apt is locked\n"
    )
    # An hour: one that waited it out would not end in this test's time.
    assert cloud.run("start", gpus="0", online_timeout_minutes="60") == 30
    assert "libraries failed: apt is locked" in cloud.told()
    assert cloud.left() == []


def test_a_machine_without_its_gpu_is_replaced(cloud: Cloud) -> None:
    """Machine is up, GPU is not (pain 23): given back, and the next candidate is launched."""
    come_online = cloud.aws.settings.on_boot
    assert come_online

    def boot(instance_id: str, script: str) -> None:
        if len(cloud.aws.instances(live=False)) > 1:
            come_online(instance_id, script)
        else:
            cloud.aws.set_console(instance_id, "gpu-ci boot 1790000000 failed gpu ERR! in power\n")

    cloud.aws.settings.on_boot = boot
    assert cloud.run("start", machine="g5.xlarge,g4dn.xlarge") == 0, cloud.told()
    assert cloud.output("machine-type") == "g4dn.xlarge"
    assert json.loads(cloud.output("handle"))["price"]["per_hour"] == 0.526
    assert len(cloud.aws.instances()) == 1
    assert len(cloud.world.runner_names()) == 1


def test_a_registration_that_vanishes_is_replaced(cloud: Cloud) -> None:
    """GitHub drops an idle registration before its runner is online: another machine is started."""
    come_online = cloud.aws.settings.on_boot
    assert come_online
    github = cloud.world.served.github

    def boot(instance_id: str, script: str) -> None:
        if len(cloud.aws.instances(live=False)) > 1:
            come_online(instance_id, script)
        else:
            with github.turn():
                github.runners.remove(github.runners.all()[0].id)

    cloud.aws.settings.on_boot = boot
    assert cloud.run("start", gpus="0") == 0, cloud.told()
    assert len(cloud.aws.instances()) == 1


def test_too_much_setup_for_user_data_is_said_before_the_call(cloud: Cloud) -> None:
    """User data over 16 kB (pain 32): said before anything is asked for, nothing left."""
    noise = "".join(
        f"echo {n * 7919 % 1_000_003:x}{n * 104_729 % 999_983:x}\n" for n in range(4000)
    )
    assert cloud.run("start", gpus="0", setup_script=noise) == 23
    assert run_calls(cloud) == []
    assert cloud.left() == []

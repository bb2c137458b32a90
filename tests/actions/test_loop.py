"""The whole loop with the shipped actions on this machine: start, a job, stop."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.pace import PATIENCE

if TYPE_CHECKING:
    from gpu_ci_sandbox.world import World


def test_a_job_runs_on_the_machine_and_everything_is_given_back(world: World) -> None:
    """Start returns with an online runner, the job runs there, stop leaves nothing."""
    started = world.act("start")
    assert started.exit_code == 0, started.log
    label = started.outputs["label"]

    job = world.served.github.queue_job(world.run_id, "test", [label], "echo on $(id -un)")
    world.served.github.wait(lambda: world.served.github.job(job.id).completed, PATIENCE)
    job = world.served.github.job(job.id)
    assert job.conclusion == "success", job.log
    assert "on root" not in "\n".join(job.log)

    stopped = world.act("stop", handle=started.outputs["handle"])
    assert stopped.exit_code == 0, stopped.log
    assert world.machines() == []
    assert world.runner_names() == []
    assert json.loads(started.outputs["labels"]) == [label]

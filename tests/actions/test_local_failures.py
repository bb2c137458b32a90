"""Boots that fail on this machine, with the shipped action: the reason is shown, nothing is left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.pace import PATIENCE

if TYPE_CHECKING:
    from gpu_ci_sandbox.world import World


def test_a_machine_without_a_gpu_is_refused(world: World) -> None:
    """Machine is up, GPU is not (pain 23): said in words, with the exit code of its class."""
    world.extra |= {"GPU_CI_BOOT_TRIES": "1", "PATH": _without_nvidia(world.env("start")["PATH"])}
    result = world.act("start", gpus="1")
    assert result.exit_code == 31, result.log
    assert "nvidia-smi" in result.log
    assert world.machines() == []
    assert world.runner_names() == []


def test_a_setup_script_that_fails_is_named(world: World) -> None:
    """The user's own script fails: its phase and its last words are shown, within seconds."""
    result = world.act("start", setup_script="echo about to break\nno-such-program --at-all\n")
    assert result.exit_code == 30, result.log
    assert "setup failed" in result.log
    assert "no-such-program" in result.log
    assert world.machines() == []
    assert world.runner_names() == []


def test_registration_by_token(world: World) -> None:
    """Where there are no just-in-time runners: config.sh registers, and stop finds it by name."""
    started = world.act("start", registration="token")
    assert started.exit_code == 0, started.log
    job = world.served.github.queue_job(world.run_id, "test", [started.outputs["label"]], "true")
    world.served.github.wait(lambda: world.served.github.job(job.id).completed, PATIENCE)
    assert world.served.github.job(job.id).conclusion == "success"
    assert world.act("stop", handle=started.outputs["handle"]).exit_code == 0
    assert world.machines() == []
    assert world.runner_names() == []


def _without_nvidia(path: str) -> str:
    return ":".join(part for part in path.split(":") if "nvidia" not in part)

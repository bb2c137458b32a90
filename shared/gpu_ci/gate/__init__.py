"""The order of events of a gate."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from gpu_ci.errors import GitHubError, NotAllowed
from gpu_ci.gate.event import Event
from gpu_ci.gate.verdict import decide, used_elsewhere
from gpu_ci.github.labels import use_up
from gpu_ci.github.tokens import Access
from gpu_ci.inputs.gate_inputs import GateInputs
from gpu_ci.inputs.reader import CARRY_SECRETS
from gpu_ci.profiles import applied
from gpu_ci.runtime import workflow_commands
from gpu_ci.runtime.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpu_ci.gate.verdict import Verdict
    from gpu_ci.runtime.clock import Clock

TITLES: Final = {
    "go": "The GPU job may run",
    "no": "The GPU job may not run",
    "neutral": "The GPU job is left out",
    "elsewhere": "Nothing to do here",
}


def gate(env: Mapping[str, str], clock: Clock = SYSTEM_CLOCK) -> None:
    """Decide whether this run may rent a machine, and use up the label that asked for it.

    Raises NotAllowed when it may not; BadInputs, also for the profile, before it uses up the label;
    EventUnreadable.
    """
    workflow_commands.mask_secrets(env, CARRY_SECRETS)
    inputs = GateInputs.read(env)
    verdict = decide(Event.read(env), inputs)
    if verdict.word == "go":
        inputs = GateInputs.read(applied(env, workflow_commands.say))
        verdict = _use_up(verdict, inputs, env, clock)
    _hand_out(verdict, inputs, env)
    _report(verdict)


def _use_up(verdict: Verdict, inputs: GateInputs, env: Mapping[str, str], clock: Clock) -> Verdict:
    """Remove the label. If that fails the run still goes: somebody did add the label."""
    if not verdict.uses:
        return verdict
    access = Access(
        api_url=inputs.github_api_url,
        repository=env["GITHUB_REPOSITORY"],
        tokens=[env.get("GPU_CI_RUN_TOKEN", "")],
        say=workflow_commands.say,
    )
    try:
        ours = use_up(access, verdict.number, verdict.uses, clock)
    except GitHubError as error:
        _warn(verdict, str(error))
        return verdict
    return verdict if ours or not verdict.contested else used_elsewhere(verdict)


def _warn(verdict: Verdict, why: str) -> None:
    workflow_commands.warning(
        f"The label {verdict.uses!r} could not be removed from #{verdict.number}, so the next push "
        f"runs a GPU job too: remove it by hand. {why}"
    )


def _hand_out(verdict: Verdict, inputs: GateInputs, env: Mapping[str, str]) -> None:
    """Set the outputs. Only a run that may have the machine sees which one it is."""
    goes = verdict.word == "go"
    workflow_commands.output("run", str(goes).lower())
    workflow_commands.output("verdict", verdict.word)
    workflow_commands.output("reason", verdict.reason)
    workflow_commands.output("provider", inputs.provider if goes else "")
    workflow_commands.output("machine-name", inputs.machine_name if goes else "")
    workflow_commands.output("aws-role", inputs.aws_role if goes else "")
    workflow_commands.output("aws-region", inputs.aws_region if goes else "")
    workflow_commands.output("group", group(inputs.machine_name, env))


def group(machine_name: str, env: Mapping[str, str]) -> str:
    """Return the concurrency group: a kept machine's own, else one that no other call has."""
    if machine_name:
        return f"gpu-ci-machine-{machine_name}"
    call = env.get("GPU_CI_CHECK_RUN_ID", "") or secrets.token_hex(4)
    return f"gpu-ci-{env.get('GITHUB_RUN_ID', '') or '0'}-{call}"


def _report(verdict: Verdict) -> None:
    """Report the verdict. Raises NotAllowed if it is a no."""
    title = TITLES[verdict.word]
    workflow_commands.summary(
        f"### {title}\n\n"
        + workflow_commands.table(["Why", "What to do"], [(verdict.reason, verdict.cure)])
    )
    if verdict.word == "no":
        raise NotAllowed(f"{title}. {verdict.reason}", verdict.cure)
    tell = workflow_commands.say if verdict.word == "go" else workflow_commands.notice
    tell(f"{title}. {verdict.reason} {verdict.cure}".strip())

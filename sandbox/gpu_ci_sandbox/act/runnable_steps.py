"""The steps of a job, as act can run them on this machine. No I/O but reading actions."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import yaml

from gpu_ci_sandbox.act.references import Origin, find_action

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet
    from pathlib import Path

TOKEN: Final = "GPU_CI_DEMO_TOKEN"  # noqa: S105 -- the name of a secret
CHECKOUT: Final = re.compile(r"actions/checkout@\S+")
# What logs in to a cloud, or keeps files at GitHub: nothing that comes after it here needs it.
ABSENT: Final = re.compile(
    r"(?:aws-actions/configure-aws-credentials|azure/login|google-github-actions/auth"
    r"|actions/upload-artifact|actions/cache(?:/restore|/save)?)@\S+"
)
EXPRESSION: Final = re.compile(r"\s*\$\{\{(?P<inner>(?:(?!\}\}).)*)\}\}\s*", re.DOTALL)
# Inputs of our actions that mean nothing here, or that must not be done to this machine.
LEFT_OUT: Final = {
    "machine", "machine-name", "region", "market", "image", "disk-gb", "organization",
    "runner-group", "setup-script", "github-api-url", "app-id", "app-private-key", "cache-dir",
    "aws-role", "aws-region",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a copy will run, as its steps see it.

    `actions` is this library's checkout, `tree` the repository that the workflow is in; `options`
    are the local provider's; `gpus` "" leaves the workflow's own number; `python` and `script` run
    `job_steps.py`; `env` is what that script reads.
    """

    actions: Path
    tree: Path
    options: str
    gpus: str
    python: str
    script: str
    env: Mapping[str, str]


@dataclass(kw_only=True)
class Met:
    """What was met on the way through a workflow and those that it calls."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    references: set[str] = field(default_factory=set)


@dataclass(frozen=True, kw_only=True)
class Steps:
    """The rewriting of the steps of one job, which people know by `job`."""

    job: str
    origin: Origin
    place: Place
    met: Met

    def of(self, steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [self._step(step) for step in steps if not self._is_absent(step)]

    def _is_absent(self, step: Mapping[str, Any]) -> bool:
        absent = ABSENT.fullmatch(step.get("uses", ""))
        if absent and not self.origin.shipped:
            self.met.notes.append(f"Job {self.job}: {absent[0].partition('@')[0]} is left out.")
        return absent is not None

    def _step(self, step: dict[str, Any]) -> dict[str, Any]:
        uses = step.get("uses")
        if uses is None:
            return step
        if CHECKOUT.fullmatch(uses):
            return self._checkout(step)
        action = find_action(uses, self.origin, self.place.actions)
        if action:
            self.met.references.add(f"{action.origin.repository}@{action.origin.ref}")
            given = self._inputs(action.file, step.get("with") or {})
            return {**step, "uses": action.uses, "with": given}
        if uses.startswith("$/"):
            return {**step, "uses": self.origin.spelled(uses, "$/")}
        if not self._is_local(uses):
            self.met.problems.append(
                f"Job {self.job} uses {uses}, which cannot be fetched here: the demo is offline "
                "and knows actions/checkout, gpu-ci's own actions and those of the same repository."
            )
        return step

    def _checkout(self, step: dict[str, Any]) -> dict[str, Any]:
        """Return the step without a `ref`: act has one commit, and would fetch any other."""
        given = step.get("with") or {}
        now = _without(given, {"ref"})
        if not self.origin.shipped:
            self.note("actions/checkout", given, now)
        return {**step, "with": now} if given else step

    def _is_local(self, uses: str) -> bool:
        return uses.startswith("./") and (self.place.tree / uses).is_dir()

    def _inputs(self, action: Path, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return one of our action's inputs for this machine, and note what was changed."""
        known = yaml.safe_load((action / "action.yml").read_text())["inputs"]
        chosen = "provider" if "provider" in known else "providers"
        forced: dict[str, Any] = {}
        if chosen == "provider" or given.get(chosen):
            forced = {chosen: "local", "provider-options": self.place.options}
        if self.place.gpus:
            forced["gpus"] = self.place.gpus
        if given.get("app-id"):
            forced["github-token"] = _token(given)
        forced = {name: value for name, value in forced.items() if name in known}
        now = {**_without(given, LEFT_OUT), **forced}
        if not self.origin.shipped:  # there it is the call that says what people have chosen
            self.note(action.name, given, now)
        return now

    def note(self, what: str, given: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        """Note what an action or a workflow gets otherwise than it is written."""
        changed = [
            f"{name} is {now[name]}, not {value}" if name in now else f"{name} is left out"
            for name, value in given.items()
            if str(now.get(name)) != str(value)
        ]
        if changed:
            self.met.notes.append(f"Job {self.job}, {what}: {'; '.join(changed)}.")

    def of_call(
        self, workflow: str, given: Mapping[str, Any], known: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the inputs of a workflow of this library, and note what its actions do not get."""
        gpus = {"gpus": self.place.gpus} if self.place.gpus and "gpus" in known else {}
        local = {"provider": "local"} if "provider" in given else {}
        now = _without(given, LEFT_OUT | {"provider-options"})
        self.note(workflow, given, {**now, **gpus, **local})
        return {**given, **gpus}


def _without(given: Mapping[str, Any] | None, names: AbstractSet[str]) -> dict[str, Any]:
    return {name: value for name, value in (given or {}).items() if name not in names}


def _token(given: Mapping[str, Any]) -> str:
    """Return an expression for a token in an App's place: every secret's value here is one.

    Where the key is a secret, that it reached the step is shown as well.
    """
    written = (str(given.get(name, "")) for name in ("github-token", "app-private-key"))
    secrets = [found["inner"].strip() for found in map(EXPRESSION.fullmatch, written) if found]
    return f"${{{{ {' || '.join(secrets) or f'secrets.{TOKEN}'} }}}}"

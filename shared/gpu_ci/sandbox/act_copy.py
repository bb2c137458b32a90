"""The copy of a workflow file that act can run against the sandbox. No I/O but reading actions.

What is changed, and nothing else:

* every job asks for one label, `this-machine`, which act is told about;
* every job gets a first and a last step (`act_job.py`) that keep the sandbox's record of it; in a
  job whose `runs-on` comes from another job's outputs they make the rented runner hold that job;
* the actions of this library get the local provider, and lose what only a cloud knows;
* steps that only log in to a cloud are left out;
* one event triggers it, without filters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import yaml

from gpu_ci.errors import BadInputs
from gpu_ci.sandbox import act_job
from gpu_ci.sandbox.world import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

LABEL: Final = "this-machine"
# `$/action` is an action of the sandbox's repository at this ref, and act is told where that is.
SELF_REF: Final = "self"
TOKEN: Final = "GPU_CI_DEMO_TOKEN"  # noqa: S105 -- the name of a secret
ENTER: Final = "gpu-ci-enter"
LEAVE: Final = "gpu-ci-leave"
EVENTS: Final = ("push", "workflow_dispatch", "pull_request", "schedule")
OURS: Final = re.compile(r"(?P<repository>[\w.-]+/gpu-ci)/(?P<folder>action-[\w-]+)@(?P<ref>\S+)")
CHECKOUT: Final = re.compile(r"actions/checkout@\S+")
LOGIN: Final = re.compile(
    r"(?:aws-actions/configure-aws-credentials|azure/login|google-github-actions/auth)@\S+"
)
EXPRESSION: Final = re.compile(r"\s*\$\{\{(?P<inner>(?:(?!\}\}).)*)\}\}\s*", re.DOTALL)
NAMED: Final = r"\b{0}(?:\.([A-Za-z_]\w*)|\[\s*'([A-Za-z_]\w*)'\s*\])"
# Inputs of our actions that mean nothing here, or that must not be done to this machine.
LEFT_OUT: Final = {
    "machine-name", "region", "market", "image", "disk-gb", "organization", "runner-group",
    "setup-script", "github-api-url", "app-id", "app-private-key", "cache-dir",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a copy will run: what its steps are told.

    `actions` is this library's checkout, `tree` the repository that the workflow is in; `options`
    are the local provider's; `gpus` "" leaves the workflow's own number; `python` and `script` run
    `act_job.py`; `env` is what that script reads.
    """

    actions: Path
    tree: Path
    options: str
    gpus: str
    python: str
    script: str
    env: Mapping[str, str]


@dataclass(kw_only=True)
class Copy:
    """A workflow that act can run: its content as JSON (which is YAML), and what it refers to."""

    event: str
    content: str
    jobs: tuple[str, ...]
    references: frozenset[str]
    secrets: frozenset[str]
    variables: frozenset[str]
    notes: tuple[str, ...]


def copy_workflow(text: str, place: Place) -> Copy:
    """Rewrite a workflow file. Raises BadInputs with everything in it that act cannot run here."""
    workflow = yaml.load(text, Loader=_Loader)  # noqa: S506 -- it is a SafeLoader
    if not isinstance(workflow, dict) or not isinstance(workflow.get("jobs"), dict):
        raise BadInputs(["This is not a workflow file: it has no jobs."])
    rewriting = _Rewriting(place=place)
    jobs = {name: rewriting.job(name, job) for name, job in workflow["jobs"].items()}
    event = rewriting.event(workflow.get("on"))
    if rewriting.problems:
        raise BadInputs(rewriting.problems)
    triggers = {event: _inputs_of(workflow["on"]) if event == "workflow_dispatch" else None}
    return Copy(
        event=event,
        content=json.dumps({**workflow, "on": triggers, "jobs": jobs}, indent=1),
        jobs=tuple(jobs),
        references=frozenset(rewriting.references),
        secrets=_named("secrets", text) | {TOKEN, "GITHUB_TOKEN"},
        variables=_named("vars", text),
        notes=tuple(rewriting.notes),
    )


def _inputs_of(triggers: Any) -> Any:
    return triggers["workflow_dispatch"] if isinstance(triggers, Mapping) else None


def _named(context: str, text: str) -> frozenset[str]:
    found = re.findall(NAMED.format(context), text)
    return frozenset(dotted or indexed for dotted, indexed in found)


@dataclass(kw_only=True)
class _Rewriting:
    """One pass over a workflow, which collects what it meets."""

    place: Place
    problems: list[str] = field(default_factory=list)
    references: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    def event(self, triggers: Any) -> str:
        """Return the event that is sent: the first of `EVENTS` that the workflow listens to."""
        names = [triggers] if isinstance(triggers, str) else list(triggers or [])
        event = next((event for event in EVENTS if event in names), "")
        if not event:
            self.problems.append(
                f"The workflow is triggered by {', '.join(names) or 'nothing'}; "
                f"the demo can send {', '.join(EVENTS)}."
            )
        return event

    def job(self, name: str, job: dict[str, Any]) -> dict[str, Any]:
        """Return the job as act will run it."""
        if "uses" in job:
            self.problems.append(
                f"Job {name} calls the workflow {job['uses']}; the demo runs plain jobs only."
            )
            return job
        for key in ("container", "services"):
            if key in job:
                self.problems.append(f"Job {name} has {key}, which needs a container engine.")
        steps = [
            self._step(name, step)
            for step in job.get("steps", [])
            if not self._is_login(name, step)
        ]
        env = self._env(name, job)
        return {**job, "runs-on": LABEL, "steps": [_enter(name, env), *steps, _leave(name, env)]}

    def _env(self, name: str, job: Mapping[str, Any]) -> dict[str, str]:
        """Return what the first and the last step are told."""
        told = {
            **self.place.env,
            "PYTHON": self.place.python,
            "SCRIPT": self.place.script,
            "NAME": name,
            "RUNS_ON": _labels(job.get("runs-on", "")),
            "RENTED": "true" if is_rented(job) else "",
            "MATRIX": "${{ toJSON(matrix) }}" if _has_matrix(job) else "",
        }
        return {f"{act_job.PREFIX}{key}": value for key, value in told.items()}

    def _is_login(self, job: str, step: Mapping[str, Any]) -> bool:
        login = LOGIN.fullmatch(step.get("uses", ""))
        if login:
            self.notes.append(f"Job {job}: {login[0].partition('@')[0]} is left out.")
        return login is not None

    def _step(self, job: str, step: dict[str, Any]) -> dict[str, Any]:
        uses = step.get("uses")
        if uses is None or CHECKOUT.fullmatch(uses):
            return step
        ours = OURS.fullmatch(uses)
        if ours and (self.place.actions / ours["folder"] / "action.yml").exists():
            self.references.add(f"{ours['repository']}@{ours['ref']}")
            return {**step, "with": self._inputs(job, ours["folder"], step.get("with") or {})}
        if uses.startswith("$/"):
            return {**step, "uses": f"{REPOSITORY}{uses[1:]}@{SELF_REF}"}
        if not self._is_local(uses):
            self.problems.append(
                f"Job {job} uses {uses}, which cannot be fetched here: the demo is offline and "
                "knows actions/checkout, gpu-ci's own actions and those of the same repository."
            )
        return step

    def _is_local(self, uses: str) -> bool:
        return uses.startswith("./") and (self.place.tree / uses).is_dir()

    def _inputs(self, job: str, folder: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return one of our action's inputs for this machine, and note what was changed."""
        action = yaml.safe_load((self.place.actions / folder / "action.yml").read_text())
        chosen = "provider" if "provider" in action["inputs"] else "providers"
        forced = {}
        if chosen == "provider" or given.get(chosen):
            forced = {chosen: "local", "provider-options": self.place.options}
        if self.place.gpus:
            forced["gpus"] = self.place.gpus
        if given.get("app-id"):
            forced["github-token"] = f"${{{{ secrets.{TOKEN} }}}}"
        forced = {name: value for name, value in forced.items() if name in action["inputs"]}
        out = LEFT_OUT | ({"machine"} if folder == "action-start" else set())
        kept = {name: value for name, value in given.items() if name not in out}
        self._note(job, folder, given, {**kept, **forced})
        return {**kept, **forced}

    def _note(
        self, job: str, folder: str, given: Mapping[str, Any], now: Mapping[str, Any]
    ) -> None:
        changed = [
            f"{name} is {now[name]}, not {value}" if name in now else f"{name} is left out"
            for name, value in given.items()
            if str(now.get(name)) != str(value)
        ]
        if changed:
            self.notes.append(f"Job {job}, {folder}: {'; '.join(changed)}.")


def is_rented(job: Mapping[str, Any]) -> bool:
    """Whether the job's `runs-on` comes from another job's outputs, itself or by its matrix."""
    asked = json.dumps(job.get("runs-on", ""))
    if "${{" not in asked:
        return False
    return "needs." in asked or (
        "matrix." in asked and "needs." in json.dumps(job.get("strategy", {}))
    )


def _has_matrix(job: Mapping[str, Any]) -> bool:
    return "matrix" in (job.get("strategy") or {})


def _labels(asked: Any) -> str:
    """Return an expression whose value is the labels as JSON, one value a line."""
    if isinstance(asked, Mapping):
        asked = asked.get("labels", [])
    parts = [asked] if isinstance(asked, str) else asked
    return "\n".join(_label(str(part)) for part in parts)


def _label(text: str) -> str:
    expression = EXPRESSION.fullmatch(text)
    return f"${{{{ toJSON({expression['inner'].strip()}) }}}}" if expression else json.dumps(text)


def _enter(job: str, env: Mapping[str, str]) -> dict[str, Any]:
    return _ours(ENTER, f"Sandbox: job {job} begins", "enter", env)


def _leave(job: str, env: Mapping[str, str]) -> dict[str, Any]:
    outputs = {
        f"{act_job.PREFIX}JOB": f"${{{{ steps.{ENTER}.outputs.job }}}}",
        f"{act_job.PREFIX}END": f"${{{{ steps.{ENTER}.outputs.end }}}}",
        f"{act_job.PREFIX}STATUS": "${{ job.status }}",
    }
    step = _ours(LEAVE, f"Sandbox: job {job} ends", "leave", {**env, **outputs})
    return {**step, "if": "always()"}


def _ours(step_id: str, name: str, verb: str, env: Mapping[str, str]) -> dict[str, Any]:
    return {
        "id": step_id,
        "name": name,
        "shell": "bash",
        "working-directory": "/",  # the job's default may not exist yet
        "run": f'"${act_job.PREFIX}PYTHON" -I "${act_job.PREFIX}SCRIPT" {verb}',
        "env": dict(env),
    }


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core types, as GitHub reads them: `on` is a word, a date is a string."""


_Loader.yaml_implicit_resolvers = {}  # not those of YAML 1.1, which it would inherit


def _resolve(tag: str, pattern: str, first: str) -> None:
    found = re.compile(rf"^(?:{pattern})$")
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", found, [*first, ""])


_resolve("null", r"~|null|Null|NULL|", "~nN")
_resolve("bool", r"true|True|TRUE|false|False|FALSE", "tTfF")
_resolve("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789")
_resolve("float", r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?", "-+.0123456789")
_resolve("merge", "<<", "<")

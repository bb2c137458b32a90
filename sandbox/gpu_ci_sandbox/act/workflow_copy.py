"""The copy of a workflow file, and of those that it calls, that act can run against the sandbox.

No I/O but reading actions and workflows. What is changed, and nothing else:

* every job asks for one label, `this-machine`, which act knows;
* every job gets a first and a last step (`job_steps.py`) that keep the sandbox's record of it; in a
  job whose `runs-on` comes from another job's outputs they make the rented runner hold that job;
* every job has as its name the path of its names (`job_steps.shown_name` reads it): act itself does
  not tell which call a job of a called workflow belongs to;
* the actions of this library get the local provider, and lose what only a cloud knows;
* steps that log in to a cloud, or keep files at GitHub, are left out (`runnable_steps.py`);
* `concurrency` is left out, which act does not keep and of which it does not know all;
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
from gpu_ci_sandbox.act import job_steps
from gpu_ci_sandbox.act.references import LEVELS, Origin, Reference, call_problems, find_workflow
from gpu_ci_sandbox.act.runnable_steps import EXPRESSION, TOKEN, Met, Place, Steps

if TYPE_CHECKING:
    from collections.abc import Sequence

LABEL: Final = "this-machine"
ENTER: Final = "gpu-ci-enter"
LEAVE: Final = "gpu-ci-leave"
# The input of a called workflow by which its jobs learn the path of names above them.
CALLER: Final = "gpu-ci-caller"
EVENTS: Final = ("push", "workflow_dispatch", "pull_request", "schedule")
NAMED: Final = r"\b{0}(?:\.([A-Za-z_][\w-]*)|\[\s*'([A-Za-z_][\w-]*)'\s*\])"


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A job that a re-run does not run again: its conclusion and its outputs."""

    conclusion: str
    outputs: Mapping[str, str]


@dataclass(kw_only=True)
class Copy:
    """A workflow that act can run: its content as JSON (which is YAML), and what it refers to.

    `jobs` are the paths of ids of all that run a step, `called` the workflows that it calls, with
    their content, by where they are read from.
    """

    event: str
    content: str
    jobs: tuple[tuple[str, ...], ...]
    called: Mapping[Reference, str]
    references: frozenset[str]
    secrets: frozenset[str]
    variables: frozenset[str]
    notes: tuple[str, ...]


def copy_workflow(
    text: str, place: Place, event: str = "", kept: Mapping[str, Kept] | None = None
) -> Copy:
    """Rewrite a workflow file for an event, by default the first of `EVENTS` that it listens to.

    Of the jobs in `kept` only conclusion and outputs are left. Raises BadInputs with everything in
    it that act cannot run here.
    """
    workflow = _read(text)
    rewriting = _Rewriting(place=place, texts=[text])
    jobs = rewriting.jobs(workflow, Origin.of_tree(place.tree), ())
    event = rewriting.event(workflow.get("on"), event)
    if rewriting.met.problems:
        raise BadInputs(_once(rewriting.met.problems))
    triggers = {event: _inputs_of(workflow["on"]) if event == "workflow_dispatch" else None}
    jobs |= {name: _kept(workflow["jobs"][name], job) for name, job in (kept or {}).items()}
    return Copy(
        event=event,
        content=json.dumps({**_plain(workflow), "on": triggers, "jobs": jobs}, indent=1),
        jobs=tuple(path for path in rewriting.paths if path[0] not in (kept or {})),
        called=rewriting.called,
        references=frozenset(rewriting.met.references),
        secrets=_named("secrets", rewriting.texts) | {TOKEN, "GITHUB_TOKEN"},
        variables=_named("vars", rewriting.texts),
        notes=tuple(_once(rewriting.met.notes)),
    )


def _read(text: str) -> dict[str, Any]:
    workflow = yaml.load(text, Loader=_Loader)  # noqa: S506 -- it is a SafeLoader
    if not isinstance(workflow, dict) or not isinstance(workflow.get("jobs"), dict):
        raise BadInputs(["This is not a workflow file: it has no jobs."])
    return workflow


def _plain(part: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in part.items() if key != "concurrency"}


def _once(lines: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(lines))


def _inputs_of(triggers: Any) -> Any:
    return triggers["workflow_dispatch"] if isinstance(triggers, Mapping) else None


def _named(context: str, texts: Sequence[str]) -> frozenset[str]:
    found = re.findall(NAMED.format(context), "\n".join(texts))
    return frozenset(dotted or indexed for dotted, indexed in found)


def _kept(job: Mapping[str, Any], kept: Kept) -> dict[str, Any]:
    """Return a job that ends as the one of an earlier attempt did, and does nothing."""
    return {
        **({"needs": job["needs"]} if "needs" in job else {}),
        "if": "always()" if kept.conclusion == "success" else "false",
        "runs-on": LABEL,
        "outputs": dict(kept.outputs),
        "steps": [{"run": "true"}],
    }


@dataclass(kw_only=True)
class _Rewriting:
    """One pass over a workflow and those that it calls, which collects what it meets.

    `texts` are the files of the user's repository, in which secrets and variables are named.
    """

    place: Place
    texts: list[str]
    met: Met = field(default_factory=Met)
    paths: list[tuple[str, ...]] = field(default_factory=list)
    called: dict[Reference, str] = field(default_factory=dict)

    def event(self, triggers: Any, asked: str) -> str:
        """Return the event that is sent."""
        names = [triggers] if isinstance(triggers, str) else list(triggers or [])
        events = [asked] if asked else EVENTS
        event = next((event for event in events if event in names), "")
        if not event:
            self.met.problems.append(
                f"The workflow is triggered by {', '.join(names) or 'nothing'}; "
                f"the demo can send {', '.join(events)}."
            )
        return event

    def jobs(
        self, workflow: Mapping[str, Any], origin: Origin, above: tuple[str, ...]
    ) -> dict[str, Any]:
        """Return the jobs of a file; `above` are the ids of the jobs by which it is called."""
        return {
            name: self._job(job, origin, (*above, name)) for name, job in workflow["jobs"].items()
        }

    def _job(self, job: dict[str, Any], origin: Origin, path: tuple[str, ...]) -> dict[str, Any]:
        if "uses" in job:
            return self._call(job, origin, path)
        self.paths.append(path)
        name = job_steps.SEPARATOR.join(path)
        self.met.problems += [
            f"Job {name} has {key}, which needs a container engine."
            for key in ("container", "services")
            if key in job
        ]
        steps = Steps(job=name, origin=origin, place=self.place, met=self.met)
        env = self._env(job, path)
        return {
            **_plain(job),
            "name": job_steps.MARK + _name(job, path),
            "runs-on": LABEL,
            "steps": [_enter(name, env), *steps.of(job.get("steps", [])), _leave(name, env, job)],
        }

    def _call(self, job: dict[str, Any], origin: Origin, path: tuple[str, ...]) -> dict[str, Any]:
        """Return a job that calls a workflow, of which a copy is made too."""
        name = job_steps.SEPARATOR.join(path)
        found = find_workflow(job["uses"], origin, self.place.actions)
        if not found or len(path) >= LEVELS:
            self.met.problems.append(
                f"Job {name} calls the workflow {job['uses']}, which cannot be had here: the demo "
                "is offline and knows gpu-ci's own workflows and those of the same repository."
            )
            return job
        self.met.references.add(f"{found.origin.repository}@{found.origin.ref}")
        declared = self._copy_called(found, path)
        self.met.problems += [f"Job {name}: {each}." for each in call_problems(job, declared)]
        given = job.get("with") or {}
        if found.origin.shipped and not origin.shipped:
            steps = Steps(job=name, origin=origin, place=self.place, met=self.met)
            given = steps.of_call(found.file.name, given, declared.get("inputs") or {})
        return {**_plain(job), "uses": found.uses, "with": {**given, CALLER: _name(job, path)}}

    def _copy_called(self, called: Reference, path: tuple[str, ...]) -> Mapping[str, Any]:
        """Make the copy of a called workflow; return what it declares of inputs and secrets."""
        text = called.file.read_text()
        if not called.origin.shipped:
            self.texts.append(text)
        workflow = _read(text)
        triggers = workflow.get("on")
        if triggers != "workflow_call" and "workflow_call" not in (triggers or {}):
            self.met.problems.append(f"{called.path} cannot be called: it has no workflow_call.")
            return {}
        declared = (triggers.get("workflow_call") if isinstance(triggers, Mapping) else None) or {}
        inputs = {**(declared.get("inputs") or {}), CALLER: {"type": "string", "default": ""}}
        on = {"workflow_call": {**declared, "inputs": inputs}}
        jobs = self.jobs(workflow, called.origin, path)
        self.called[called] = json.dumps({**_plain(workflow), "on": on, "jobs": jobs}, indent=1)
        return declared

    def _env(self, job: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, str]:
        """Return the variables that the first and the last step read."""
        told = {
            **self.place.env,
            "PYTHON": self.place.python,
            "SCRIPT": self.place.script,
            "NAME": _name(job, path),
            "RUNS_ON": _labels(job.get("runs-on", "")),
            "RENTED": "true" if is_rented(job) else "",
        }
        return {f"{job_steps.PREFIX}{key}": value for key, value in told.items()}


def is_rented(job: Mapping[str, Any]) -> bool:
    """Whether the job's `runs-on` comes from another job's outputs, itself or by its matrix."""
    asked = json.dumps(job.get("runs-on", ""))
    if "${{" not in asked:
        return False
    return "needs." in asked or (
        "matrix." in asked and "needs." in json.dumps(job.get("strategy", {}))
    )


def _name(job: Mapping[str, Any], path: tuple[str, ...]) -> str:
    """Return text that becomes the path of the job's names, as `job_steps.shown_name` reads it."""
    above = f"${{{{ inputs.{CALLER} }}}}" if len(path) > 1 else ""
    level = [f'"id": {json.dumps(path[-1])}']
    named = str(job.get("name", ""))
    if named:
        level.append(f'"name": {_as_json(named)}')
    if "matrix" in (job.get("strategy") or {}) and "${{" not in named:
        level.append('"matrix": ${{ toJSON(matrix) }}')
    return f"{above}{{{', '.join(level)} }}"


def _as_json(text: str) -> str:
    """Return an expression whose value is that of a text with expressions, as JSON."""
    parts = re.split(r"\$\{\{((?:(?!\}\}).)*)\}\}", text, flags=re.DOTALL)
    if len(parts) == 1:
        return json.dumps(text)
    literal = [part.replace("'", "''").replace("{", "{{").replace("}", "}}") for part in parts[::2]]
    form = (
        "".join(f"{before}{{{number}}}" for number, before in enumerate(literal[:-1])) + literal[-1]
    )
    return f"${{{{ toJSON(format('{form}', {', '.join(f'({each})' for each in parts[1::2])})) }}}}"


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


def _leave(job: str, env: Mapping[str, str], written: Mapping[str, Any]) -> dict[str, Any]:
    outputs = (written.get("outputs") or {}).items()
    values = ", ".join(f"{json.dumps(name)}: {_as_json(str(value))}" for name, value in outputs)
    told = {
        f"{job_steps.PREFIX}JOB": f"${{{{ steps.{ENTER}.outputs.job }}}}",
        f"{job_steps.PREFIX}END": f"${{{{ steps.{ENTER}.outputs.end }}}}",
        f"{job_steps.PREFIX}STATUS": "${{ job.status }}",
        f"{job_steps.PREFIX}OUTPUTS": f"{{{values} }}",
    }
    step = _ours(LEAVE, f"Sandbox: job {job} ends", "leave", {**env, **told})
    return {**step, "if": "always()"}


def _ours(step_id: str, name: str, verb: str, env: Mapping[str, str]) -> dict[str, Any]:
    return {
        "id": step_id,
        "name": name,
        "shell": "bash",
        "working-directory": "/",  # the job's default may not exist yet
        "run": f'"${job_steps.PREFIX}PYTHON" -I "${job_steps.PREFIX}SCRIPT" {verb}',
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

"""What each `if` of the callable workflows is meant to say, and which values it depends on.

An expression of the workflow is asked over every combination of those values, and of the results of
what comes before; the meaning is written here a second time, in Python.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

from tests.workflows.official import Case

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

RESULTS = ("success", "failure", "cancelled", "skipped")
STATUSES = ("success", "failure", "cancelled")
ATTEMPTS = ("1", "2")


@dataclass(frozen=True, kw_only=True)
class At:
    """One combination: the values, by what the expression calls them, and how it stands so far."""

    values: Mapping[str, Any]
    success: bool
    failure: bool
    cancelled: bool

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    @property
    def again(self) -> bool:
        """Whether start is of an earlier attempt: GitHub did not run it again."""
        return bool(self["needs.start.outputs.attempt"] != self["github.run_attempt"])

    def case(self) -> Case:
        return Case(
            contexts=nested(self.values),
            success=self.success,
            failure=self.failure,
            cancelled=self.cancelled,
        )


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return contexts from dotted names; None is a value that is not there."""
    contexts: dict[str, Any] = {}
    for name, value in values.items():
        *above, last = name.split(".")
        inner = contexts
        for part in above:
            inner = inner.setdefault(part, {})
        if value is not None:
            inner[last] = value
    return contexts


def combinations(values: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Yield every combination of the values that each name may have."""
    for chosen in product(*values.values()):
        yield dict(zip(values, chosen, strict=True))


def of_job(values: Mapping[str, Sequence[Any]], needs: Sequence[str]) -> Iterator[At]:
    """Yield what a job's expressions may meet: its needs in every result, also in a cancelled run.

    `success()` is that each of them succeeded, `failure()` that one failed (GitHub's reference of
    status check functions); here each job names all that come before it.
    """
    results: Mapping[str, Sequence[Any]] = {f"needs.{name}.result": RESULTS for name in needs}
    for at in combinations({**results, **values}):
        found = {at[name] for name in results}
        for cancelled in (False, True):
            yield At(
                values=at,
                success=found <= {"success"} and not cancelled,
                failure="failure" in found,
                cancelled=cancelled,
            )


def of_step(values: Mapping[str, Sequence[Any]]) -> Iterator[At]:
    """Yield what a step's expressions may meet, in a job that has gone well so far or has not."""
    for at in combinations(values):
        for status in STATUSES:
            told = {name: status == name for name in STATUSES}
            yield At(values=at, **told)


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """When something is to happen, and what that depends on besides the results before it."""

    says: Callable[[At], bool]
    values: Mapping[str, Sequence[Any]] = field(default_factory=dict)


ALWAYS = Meaning(says=lambda at: True)
TEXT = ("", "given")
RERUN: Mapping[str, Sequence[Any]] = {
    "needs.start.outputs.stays": ("", "true", "false"),
    "needs.start.outputs.attempt": ("", *ATTEMPTS),
    "github.run_attempt": ATTEMPTS,
}
# How many jobs the first look of the watch has found waiting; nothing where it was not taken.
QUEUED: Mapping[str, Sequence[Any]] = {"steps.again.outputs.queued": (None, "", "0", "1")}
ROLE = Meaning(
    says=lambda at: at.success and at["inputs.aws-role"] != "",
    values={"inputs.aws-role": TEXT},
)


def waits(at: At) -> bool:
    return bool(at["steps.again.outputs.queued"] == "1")


# By file, job and, for a step, its name. A job or a step that is not here has no `if`.
MEANINGS: Mapping[tuple[str, str, str], Meaning] = {
    ("gpu-job.yml", "loop", ""): Meaning(
        says=lambda at: at.success and at["needs.gate.outputs.run"] == "true",
        values={"needs.gate.outputs.run": ("true", "false", "")},
    ),
    ("gpu-job.yml", "result", ""): ALWAYS,
    ("gpu-start.yml", "start", "Log in to AWS"): ROLE,
    ("gpu-stop.yml", "stop", "Log in to AWS"): ROLE,
    ("gpu-stop.yml", "stop", "Give the machine back"): ALWAYS,
    ("gpu-loop.yml", "start", "Log in to AWS"): ROLE,
    ("gpu-loop.yml", "test", "Refuse to go on without a machine"): Meaning(
        says=lambda at: (
            at.success
            and (
                at["needs.start.outputs.label"] == ""
                or (at.again and at["needs.start.outputs.stays"] != "true")
            )
        ),
        values={"needs.start.outputs.label": TEXT, **RERUN},
    ),
    ("gpu-loop.yml", "test", "Set uv up"): Meaning(
        says=lambda at: at.success and at["inputs.setup-uv"],
        values={"inputs.setup-uv": (True, False)},
    ),
    ("gpu-loop.yml", "test", "Keep what the commands left"): Meaning(
        says=lambda at: not at.cancelled and at["needs.start.outputs.label"] != "",
        values={"needs.start.outputs.label": TEXT},
    ),
    ("gpu-loop.yml", "watch", "See whether the GPU job is run again"): Meaning(
        says=lambda at: at.success and at.again and at["needs.start.outputs.stays"] == "true",
        values=RERUN,
    ),
    ("gpu-loop.yml", "watch", "Log in to AWS"): Meaning(
        says=lambda at: at.success and at["inputs.aws-role"] != "" and waits(at),
        values={"inputs.aws-role": TEXT, **QUEUED},
    ),
    ("gpu-loop.yml", "watch", "Start a machine that has the old label too"): Meaning(
        says=lambda at: at.success and waits(at),
        values=QUEUED,
    ),
    ("gpu-loop.yml", "watch", "Watch"): Meaning(
        says=lambda at: at.success and (not at.again or waits(at)),
        values={**RERUN, **QUEUED},
    ),
    ("gpu-loop.yml", "watch", "End the wait for a machine that did not come"): Meaning(
        says=lambda at: at.failure and at.again and at["steps.gpu.outcome"] != "success",
        values={
            "steps.gpu.outcome": (None, *RESULTS),
            "needs.start.outputs.attempt": ("", *ATTEMPTS),
            "github.run_attempt": ATTEMPTS,
        },
    ),
    ("gpu-loop.yml", "watch", "Give the machine back"): Meaning(
        says=lambda at: (
            bool(at["steps.gpu.outputs.handle"])
            and at["inputs.machine-name"] == ""
            and (at["steps.watch.outputs.over"] == "true" or at.cancelled)
        ),
        values={
            "steps.gpu.outputs.handle": (None, *TEXT),
            "inputs.machine-name": TEXT,
            "steps.watch.outputs.over": (None, "", "true"),
        },
    ),
    ("gpu-loop.yml", "stop", ""): ALWAYS,
    ("gpu-loop.yml", "stop", "Log in to AWS"): ROLE,
    ("gpu-loop.yml", "stop", "Give the machine back"): Meaning(
        says=lambda at: (
            at["inputs.machine-name"] == ""
            or at["needs.start.outputs.attempt"] == ""
            or not at.again
        ),
        values={"inputs.machine-name": TEXT, **RERUN},
    ),
    ("gpu-loop.yml", "stop", "Give back what the watch has started"): Meaning(
        says=lambda at: at["needs.start.outputs.attempt"] != "" and at.again,
        values=RERUN,
    ),
    ("watchdog.yml", "pass", "Fetch what the last pass kept"): Meaning(
        says=lambda at: at.success and at["inputs.cache"],
        values={"inputs.cache": (True, False)},
    ),
    ("watchdog.yml", "pass", "Log in to AWS"): ROLE,
    ("watchdog.yml", "pass", "Watch"): Meaning(says=lambda at: not at.cancelled),
    ("watchdog.yml", "pass", "Keep what was read"): Meaning(
        says=lambda at: not at.cancelled and at["inputs.cache"],
        values={"inputs.cache": (True, False)},
    ),
}

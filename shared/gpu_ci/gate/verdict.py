"""Decides from an event alone whether a GPU job may run. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from gpu_ci.gate.event import same

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gpu_ci.gate.event import Event, PullRequest
    from gpu_ci.inputs.gate_inputs import GateInputs

Word = Literal["go", "no", "neutral", "elsewhere"]

BRANCH: Final = "refs/heads/"
TAG: Final = "refs/tags/"
# Only people who may write to the repository can cause these, or the repository itself.
WRITERS: Final = {
    "workflow_dispatch": "It was started by hand, which takes write access.",
    "repository_dispatch": "It was started through the API, which takes write access.",
    "schedule": "It was started by the schedule of the default branch.",
    "merge_group": "It comes from a merge queue, and joining one takes write access.",
}
ANYBODY: Final = "anybody on GitHub can cause it, with the secrets of the repository in reach"
# https://docs.github.com/en/actions/reference/workflows-and-actions/events-that-trigger-workflows
RISKS: Final = {
    "workflow_run": "it follows any run, also a fork's, with the secrets of the repository in reach",
    **dict.fromkeys(
        (
            "pull_request_target", "issue_comment", "issues", "discussion", "discussion_comment",
            "pull_request_review", "pull_request_review_comment", "fork", "watch",
        ),
        ANYBODY,
    ),
}  # fmt: skip
KNOWN: Final = ("push", "pull_request", *WRITERS)
# What can happen to a pull request and ask for a test. Everything else brings nothing to test.
ASKING: Final = ("opened", "reopened", "synchronize", "labeled", "ready_for_review")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What may be done and why, in one sentence. `cure` says how to get something else.

    `uses` is the label to remove from pull request `number`, "" for none. If `contested`, other runs
    may want it too, and only the run that removes it goes.
    """

    word: Word
    reason: str
    cure: str = ""
    uses: str = ""
    number: int = 0
    contested: bool = False


def decide(event: Event, inputs: GateInputs) -> Verdict:
    """Return the verdict on an event. Anything unknown is refused."""
    if event.pull_request:
        return _on_pull_request(event.pull_request, event, inputs)
    if event.name == "push":
        return _on_push(event, inputs)
    if event.name in WRITERS:
        return Verdict(word="go", reason=WRITERS[event.name])
    return _on_another_event(event.name)


def used_elsewhere(verdict: Verdict) -> Verdict:
    """Return the verdict on a run whose label another run removed first."""
    return Verdict(
        word="elsewhere",
        reason=f"The label {verdict.uses!r} of #{verdict.number} was used up by another run.",
        cure="Add it again to run this commit too.",
    )


# Events other than a pull request's


def _on_push(event: Event, inputs: GateInputs) -> Verdict:
    if event.ref.startswith(TAG):
        return Verdict(
            word="go", reason=f"It is a push of the tag {event.ref.removeprefix(TAG)!r}."
        )
    branch = event.ref.removeprefix(BRANCH)
    named = inputs.branches or tuple(filter(None, [event.default_branch]))
    if any(_fits(branch, glob) for glob in named):
        return Verdict(word="go", reason=f"It is a push to {branch!r}.")
    wanted = " or ".join(map(repr, named)) or "the default branch, which is unknown"
    return Verdict(
        word="no",
        reason=f"It is a push to {branch!r}, and only one to {wanted} runs by itself.",
        cure="Name the branch in `branches`, open a pull request, or start the workflow by hand.",
    )


def _fits(branch: str, glob: str) -> bool:
    """Say whether a branch fits: `**` is anything, `*` and `?` are anything but a slash."""
    pattern = re.escape(glob).replace(r"\*\*", ".*").replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
    return re.fullmatch(pattern, branch) is not None


def _on_another_event(name: str) -> Verdict:
    risk = RISKS.get(name, "nobody has checked who can cause it")
    return Verdict(
        word="no",
        reason=f"It is the event {name!r}, and {risk}.",
        cure=f"Use one of: {', '.join(KNOWN)}.",
    )


# Pull requests


def _on_pull_request(pull: PullRequest, event: Event, inputs: GateInputs) -> Verdict:
    """Return the verdict of the first rule that has one."""
    return (
        _of_another_label(pull, inputs)
        or _of_another_action(pull)
        or _skipped(pull, inputs)
        or _from_a_fork(pull, inputs)
        or _of_a_bot(pull, event, inputs)
        or _by_its_label(pull, event, inputs)
    )


def _of_another_label(pull: PullRequest, inputs: GateInputs) -> Verdict | None:
    """A label that was removed asks for nothing. Neither does one that means nothing here, or means
    nothing as long as ours is there."""
    meant = inputs.label if pull.labelled(inputs.label) else inputs.skip_label
    asks = bool(meant) and same(pull.changed, meant)
    if pull.action == "unlabeled" or (pull.action == "labeled" and not asks):
        said = f"The label {pull.changed!r} of #{pull.number} asks for no GPU job."
        return Verdict(word="elsewhere", reason=said)
    return None


def _of_another_action(pull: PullRequest) -> Verdict | None:
    """A pull request that was closed or edited, say, may still have its label."""
    if pull.action in ASKING:
        return None
    return Verdict(
        word="elsewhere",
        reason=f"What happened to #{pull.number} is {pull.action!r}, which asks for no GPU job.",
        cure=f"In the types of `on: pull_request` these can ask: {', '.join(ASKING)}.",
    )


def _skipped(pull: PullRequest, inputs: GateInputs) -> Verdict | None:
    if pull.labelled(inputs.skip_label) and not pull.labelled(inputs.label):
        said = f"#{pull.number} has the label {inputs.skip_label!r}."
        return Verdict(word="neutral", reason=said)
    return None


def _from_a_fork(pull: PullRequest, inputs: GateInputs) -> Verdict | None:
    """Its runs get no secrets, and must not get any. So they cannot rent a machine."""
    if not pull.from_fork:
        return None
    number = pull.number
    source = repr(pull.source) if pull.source else "a repository that is deleted"
    return Verdict(
        word="neutral" if inputs.forks == "skip" else "no",
        reason=f"#{number} comes from {source}, and runs of a fork's pull request get no secrets.",
        cure=f"A maintainer who has read the changes can run them from a branch of this repository: "
        f"`gh pr checkout {number}`, `git push origin HEAD:refs/heads/gpu-{number}`, and then start "
        "the workflow by hand on that branch.",
    )


def _of_a_bot(pull: PullRequest, event: Event, inputs: GateInputs) -> Verdict | None:
    """Its author and the author of the latest change must both be bots. A bot that tidies up a
    person's work must not turn the person's check green, and a person who pushes to a bot's pull
    request must not either."""
    names = [event.actor, pull.author]
    if not all(_among(name, inputs.bots) for name in names) or pull.labelled(inputs.label):
        return None
    return Verdict(
        word="neutral",
        reason=f"#{pull.number} and its latest change are of {event.actor}.",
        cure=f"Add the label {inputs.label!r} to run it." if inputs.label else "",
    )


def _among(name: str, names: Iterable[str]) -> bool:
    return any(same(name, each) for each in names)


def _by_its_label(pull: PullRequest, event: Event, inputs: GateInputs) -> Verdict:
    """Adding the label asks for one run, that of `labeled`. All of its jobs go, though only one of
    them can remove the label. If the label is still there at a later event, it belongs to the run
    that removes it: the run it was meant for may have been cancelled before it could."""
    number, label = pull.number, pull.labelled(inputs.label)
    if not inputs.label:
        said = f"#{number} comes from this repository, and no label is asked for."
        return Verdict(word="go", reason=said)
    if not label:
        return _without_label(number, inputs)
    if pull.action == "opened":
        return _opened_with(label, number)
    uses = "" if inputs.keep_label else label
    return Verdict(
        word="go",
        reason=f"#{number} has the label {label!r}{', which this run uses up' if uses else ''}.",
        uses=uses,
        number=number,
        # Somebody started a later attempt by hand, and an earlier one may have used the label up.
        contested=pull.action != "labeled" and event.attempt == 1,
    )


def _opened_with(label: str, number: int) -> Verdict:
    """GitHub sends two events for a pull request that is opened with a label."""
    return Verdict(
        word="elsewhere",
        reason=f"#{number} was opened with the label {label!r}, which begins a run of its own.",
        cure="If there is none, add `labeled` to the types of `on: pull_request`.",
    )


def _without_label(number: int, inputs: GateInputs) -> Verdict:
    again = "" if inputs.keep_label else " It serves one run: each push asks again."
    skip = f" To do without, add {inputs.skip_label!r}." if inputs.skip_label else ""
    return Verdict(
        word="no",
        reason=f"#{number} has no label {inputs.label!r}, which asks for the GPU job.",
        cure=f"Add the label, which begins a new run.{again}{skip}",
    )

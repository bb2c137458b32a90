"""Who may spend money: every kind of event and every input that has a say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.gate.payloads import (
    CONTRIBUTOR,
    DEPENDABOT,
    DEPENDABOT_OPENS,
    DISPATCH,
    FORK,
    MAINTAINER,
    MERGE_GROUP,
    REPOSITORY,
    SCHEDULE,
    environment,
    event,
    pull_request,
    push,
)

from gpu_ci.gate.event import Event
from gpu_ci.gate.verdict import ANYBODY, decide, used_elsewhere
from gpu_ci.inputs.gate_inputs import GateInputs
from gpu_ci.inputs.reader import variable

if TYPE_CHECKING:
    from pathlib import Path

    from gpu_ci.gate.verdict import Verdict

RUN, SKIP = "run-gpu-ci", "skip-gpu-ci"


@pytest.fixture
def verdict(tmp_path: Path) -> Any:
    """`verdict(event, attempt="2", keep_label="true", …)`: what the gate says of it."""

    def judge(told: dict[str, Any], attempt: str = "1", **inputs: str) -> Verdict:
        given = {variable(name): value for name, value in inputs.items()}
        env = environment(told, tmp_path, **given, GITHUB_RUN_ATTEMPT=attempt)
        return decide(Event.read(env), GateInputs.read(env))

    return judge


TABLE: dict[str, tuple[dict[str, Any], dict[str, str], str]] = {
    # what happened, the inputs, the verdict
    "push to main": (push(), {}, "go"),
    "push to another branch": (push("refs/heads/x"), {}, "no"),
    "push to a named branch": (push("refs/heads/x"), {"branches": "main, x"}, "go"),
    "push to main, which is not named": (push(), {"branches": "x"}, "no"),
    "push to a release branch": (push("refs/heads/release/1.2"), {"branches": "release/*"}, "go"),
    "push deeper than the glob": (push("refs/heads/release/1/2"), {"branches": "release/*"}, "no"),
    "push at any depth": (push("refs/heads/release/1/2"), {"branches": "release/**"}, "go"),
    "a glob is no regular expression": (push("refs/heads/mainx"), {"branches": "main."}, "no"),
    "one character": (push("refs/heads/v1"), {"branches": "v?"}, "go"),
    "branches by lines": (push("refs/heads/b"), {"branches": "a\nb"}, "go"),
    "a branch that is called like a tag": (push("refs/heads/refs/tags/v1"), {}, "no"),
    "push of a tag": (push("refs/tags/v1.0"), {}, "go"),
    "started by hand": (DISPATCH, {}, "go"),
    "through the API": (event("repository_dispatch", {"action": "bench"}), {}, "go"),
    "schedule": (SCHEDULE, {}, "go"),
    "merge queue": (MERGE_GROUP, {}, "go"),
    "an unknown event": (event("release"), {}, "no"),
    # pull requests of the repository itself
    "opened": (pull_request(), {}, "no"),
    "pushed to": (pull_request("synchronize"), {}, "no"),
    "reopened": (pull_request("reopened"), {}, "no"),
    "opened with the label": (pull_request("opened", RUN), {}, "elsewhere"),
    "reopened with the label": (pull_request("reopened", RUN), {}, "go"),
    "opened with the label, which stays": (
        pull_request("opened", RUN),
        {"keep-label": "true"},
        "elsewhere",
    ),
    "pushed to with the label": (pull_request("synchronize", "docs", RUN), {}, "go"),
    "labelled": (pull_request("labeled", RUN, changed=RUN), {}, "go"),
    "labelled, not yet in the list": (pull_request("labeled", changed=RUN), {}, "go"),
    "labelled in other letters": (
        pull_request("labeled", "Run-GPU-CI", changed="Run-GPU-CI"),
        {},
        "go",
    ),
    "labelled with another one": (pull_request("labeled", "docs", changed="docs"), {}, "elsewhere"),
    "another one beside it": (
        pull_request("labeled", RUN, "docs", changed="docs"),
        {},
        "elsewhere",
    ),
    "the skip label beside it": (pull_request("labeled", RUN, SKIP, changed=SKIP), {}, "elsewhere"),
    "the label beside the skip label": (
        pull_request("labeled", SKIP, RUN, changed=RUN),
        {},
        "go",
    ),
    "the skip label taken off": (pull_request("unlabeled", RUN, changed=SKIP), {}, "elsewhere"),
    "the label taken off": (pull_request("unlabeled", changed=RUN), {}, "elsewhere"),
    "ready for review with the label": (pull_request("ready_for_review", RUN), {}, "go"),
    "ready for review without it": (pull_request("ready_for_review"), {}, "no"),
    "closed with the label": (pull_request("closed", RUN), {}, "elsewhere"),
    "closed with the label, which stays": (
        pull_request("closed", RUN),
        {"keep-label": "true"},
        "elsewhere",
    ),
    "closed without it": (pull_request("closed"), {}, "elsewhere"),
    "closed, no label needed": (pull_request("closed"), {"label": "none"}, "elsewhere"),
    "edited with the label": (pull_request("edited", RUN), {}, "elsewhere"),
    "review asked for": (pull_request("review_requested", RUN), {}, "elsewhere"),
    "queued with the label": (pull_request("enqueued", RUN), {}, "elsewhere"),
    "a label of one's own": (pull_request("synchronize", "a:b/c é"), {"label": "A:B/C É"}, "go"),
    "the usual label then": (pull_request("opened", RUN), {"label": "gpu"}, "no"),
    "a longer label": (pull_request("opened", f"{RUN}-later"), {}, "no"),
    "skipped": (pull_request("opened", SKIP), {}, "neutral"),
    "skipped now": (pull_request("labeled", SKIP, changed=SKIP), {}, "neutral"),
    "skipped by one's own": (
        pull_request("opened", "cpu only"),
        {"skip-label": "cpu only"},
        "neutral",
    ),
    "no such skip label": (pull_request("opened", SKIP), {"skip-label": "none"}, "no"),
    "both labels": (pull_request("synchronize", SKIP, RUN), {}, "go"),
    "no label needed": (pull_request("synchronize"), {"label": "none"}, "go"),
    "no label needed, skipped": (pull_request("opened", SKIP), {"label": "none"}, "neutral"),
    "no label needed, labelled": (
        pull_request("labeled", "docs", changed="docs"),
        {"label": "none"},
        "elsewhere",
    ),
    # bots
    "Dependabot": (DEPENDABOT_OPENS, {}, "neutral"),
    "Dependabot, no label needed": (DEPENDABOT_OPENS, {"label": "none"}, "neutral"),
    "Dependabot, who is not listed": (DEPENDABOT_OPENS, {"bots": "renovate[bot]"}, "no"),
    "Dependabot, nobody is listed": (DEPENDABOT_OPENS, {"bots": "none"}, "no"),
    "a bot of one's own": (
        pull_request(author="Our-Bot[bot]"),
        {"bots": "our-bot[bot]"},
        "neutral",
    ),
    "Dependabot's, labelled by a person": (
        pull_request("labeled", RUN, changed=RUN, author=DEPENDABOT, actor=MAINTAINER),
        {},
        "go",
    ),
    "Dependabot's, pushed to by a person": (
        pull_request("synchronize", author=DEPENDABOT, actor=MAINTAINER),
        {},
        "no",
    ),
    "a person's, tidied up by a bot": (
        pull_request("synchronize", author=MAINTAINER, actor="pre-commit-ci[bot]"),
        {},
        "no",
    ),
    # forks
    "fork": (pull_request(source=FORK, author=CONTRIBUTOR), {}, "no"),
    "fork with the label": (pull_request("labeled", RUN, changed=RUN, source=FORK), {}, "no"),
    "fork, no label needed": (pull_request(source=FORK), {"label": "none"}, "no"),
    "fork, left out": (pull_request("opened", RUN, source=FORK), {"forks": "skip"}, "neutral"),
    "fork, skipped": (pull_request("labeled", SKIP, changed=SKIP, source=FORK), {}, "neutral"),
    "fork, another label": (
        pull_request("labeled", "docs", changed="docs", source=FORK),
        {},
        "elsewhere",
    ),
    "fork of a bot": (pull_request(source=FORK, author=DEPENDABOT), {}, "no"),
    "deleted fork": (pull_request("reopened", RUN, source=None), {}, "no"),
    "deleted fork, left out": (pull_request(source=None), {"forks": "skip"}, "neutral"),
    "the repository in other letters": (
        pull_request("reopened", RUN, source=REPOSITORY.upper()),
        {},
        "go",
    ),
}


@pytest.mark.parametrize("case", TABLE)
def test_what_the_gate_says(case: str, verdict: Any) -> None:
    """One verdict for each event and its inputs (rows 3.1-3.6, 1.15, pain 47)."""
    told, inputs, word = TABLE[case]
    assert verdict(told, **inputs).word == word


@pytest.mark.parametrize("case", TABLE)
def test_each_verdict_has_a_reason_and_a_way_on(case: str, verdict: Any) -> None:
    """The reason is one sentence on one line; whoever is refused is told what to do."""
    told, inputs, word = TABLE[case]
    found = verdict(told, **inputs)
    assert found.reason.endswith(".")
    assert len(found.reason.splitlines()) == 1
    assert bool(found.cure) or word != "no"


@pytest.mark.parametrize(
    "name",
    [
        "pull_request_target", "issue_comment", "issues", "discussion", "discussion_comment",
        "pull_request_review", "pull_request_review_comment", "fork", "watch",
    ],
)  # fmt: skip
def test_what_anybody_can_cause_runs_nothing(name: str, verdict: Any) -> None:
    """Whatever label or branch is in its payload: a stranger's code would have the secrets
    (pain 47)."""
    payload = pull_request("labeled", RUN, changed=RUN)["payload"]
    found = verdict(event(name, payload))
    assert found.word == "no"
    assert repr(name) in found.reason
    assert ANYBODY in found.reason
    assert found.uses == ""


def test_what_follows_a_run_runs_nothing(verdict: Any) -> None:
    """A fork's pull request begins a workflow_run in the end, which has the secrets (pain 47)."""
    found = verdict(event("workflow_run", {"action": "completed"}))
    assert (found.word, "a fork's" in found.reason) == ("no", True)


@pytest.mark.parametrize(
    ("attempt", "inputs", "uses"),
    [
        ("1", {}, "Run-GPU-CI"),
        ("2", {}, "Run-GPU-CI"),
        ("1", {"keep-label": "true"}, ""),
        ("2", {"keep-label": "true"}, ""),
    ],
)
def test_a_label_is_used_once(
    attempt: str, inputs: dict[str, str], uses: str, verdict: Any
) -> None:
    """It is removed, as it is written, by any attempt, unless it is to be kept: the first one may
    have been cancelled before its gate (row 3.3)."""
    found = verdict(pull_request("synchronize", "Run-GPU-CI"), attempt, **inputs)
    assert (found.word, found.uses) == ("go", uses)


@pytest.mark.parametrize(
    ("action", "contested"), [("labeled", False), ("synchronize", True), ("reopened", True)]
)
def test_whose_a_label_is(action: str, contested: bool, verdict: Any) -> None:
    """The run that it began goes in any case, with all of its jobs: only one of a matrix can remove
    it. To later runs it belongs if they remove it."""
    changed = RUN if action == "labeled" else ""
    found = verdict(pull_request(action, RUN, changed=changed))
    assert (found.uses, found.contested) == (RUN, contested)


@pytest.mark.parametrize("action", ["labeled", "synchronize", "reopened", "ready_for_review"])
def test_a_later_attempt_goes_whoever_has_the_label(action: str, verdict: Any) -> None:
    """Somebody has asked for it by hand, and its first attempt may have removed the label."""
    changed = RUN if action == "labeled" else ""
    found = verdict(pull_request(action, RUN, changed=changed), "2")
    assert (found.word, found.contested) == ("go", False)


def test_what_asks_for_nothing_uses_nothing(verdict: Any) -> None:
    """The label of a pull request that is closed stays, and what can ask is named."""
    found = verdict(pull_request("closed", RUN))
    assert (found.uses, "'closed'" in found.reason) == ("", True)
    assert "opened, reopened, synchronize, labeled, ready_for_review" in found.cure


@pytest.mark.parametrize("attempt", ["1", "2"])
@pytest.mark.parametrize("keep", ["true", "false"])
def test_a_label_at_the_opening_is_told_twice(attempt: str, keep: str, verdict: Any) -> None:
    """Exactly one of the two events has the run, whether or not the label can be removed."""
    given = {"attempt": attempt, "keep-label": keep}
    found = [
        verdict(pull_request("opened", RUN, "docs"), **given),
        verdict(pull_request("labeled", RUN, "docs", changed=RUN), **given),
        verdict(pull_request("labeled", RUN, "docs", changed="docs"), **given),
    ]
    assert [each.word for each in found] == ["elsewhere", "go", "elsewhere"]


def test_without_a_label_to_ask_for_nothing_is_removed(verdict: Any) -> None:
    """`label: none` needs no label, so it takes none off either."""
    found = verdict(pull_request("opened", RUN), label="none")
    assert (found.word, found.uses) == ("go", "")


def test_a_label_that_another_run_took(verdict: Any) -> None:
    """This run says so, and how to have one more."""
    found = used_elsewhere(verdict(pull_request("reopened", RUN)))
    assert (found.word, found.uses) == ("elsewhere", "")
    assert "'run-gpu-ci' of #12 was used up by another run" in found.reason
    assert "Add it again" in found.cure


@pytest.mark.parametrize(
    ("told", "inputs", "words"),
    [
        (pull_request(), {}, "Add the label, which begins a new run. It serves one run: each push asks again. To do without, add 'skip-gpu-ci'."),
        (pull_request(), {"keep-label": "true", "skip-label": "none"}, "Add the label, which begins a new run."),
        (pull_request(source=FORK), {}, "`gh pr checkout 12`, `git push origin HEAD:refs/heads/gpu-12`"),
        (push("refs/heads/x"), {}, "open a pull request"),
        (event("issue_comment"), {}, "Use one of: push, pull_request, workflow_dispatch"),
    ],
)  # fmt: skip
def test_whoever_is_refused_learns_how_to_go_on(
    told: dict[str, Any], inputs: dict[str, str], words: str, verdict: Any
) -> None:
    """The cure is one that works (row 3.2, row 1.15)."""
    assert words in verdict(told, **inputs).cure


@pytest.mark.parametrize("source", [FORK, None])
def test_a_fork_is_told_apart_in_words(source: str | None, verdict: Any) -> None:
    """Where it comes from and why it cannot run: runs of a fork get no secrets (row 1.15)."""
    reason = verdict(pull_request(source=source)).reason
    assert (repr(FORK) if source else "a repository that is deleted") in reason
    assert "get no secrets" in reason


ODD = ['a";id;"', "$(id)", "`id`", "::error::x", "a|b"]


@pytest.mark.parametrize("name", ODD)
def test_odd_names_are_only_names(name: str, verdict: Any) -> None:
    """Branches and labels with signs that a shell would read decide nothing (row 1.16)."""
    assert verdict(push(f"refs/heads/{name}")).word == "no"
    assert verdict(push(f"refs/heads/{name}"), branches=name).word == "go"
    assert verdict(pull_request("opened", name, branch=name)).word == "no"
    assert verdict(pull_request("labeled", changed=name, branch=name), label=name).word == "go"


def test_no_default_branch_is_no_branch(verdict: Any) -> None:
    """Where the default branch is unknown, no push runs by itself: nothing is guessed."""
    told = push("refs/heads/")
    del told["payload"]["repository"]
    found = verdict(told)
    assert (found.word, "which is unknown" in found.reason) == ("no", True)

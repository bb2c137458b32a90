"""The gate from its environment to its outputs, in front of the stand-in for GitHub."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from tests.fakes import FakeClock
from tests.gate.payloads import (
    DEPENDABOT_OPENS,
    DISPATCH,
    FORK,
    NUMBER,
    REPOSITORY,
    environment,
    pull_request,
    push,
)

from gpu_ci.errors import BadInputs, EventUnreadable, NotAllowed
from gpu_ci.gate import gate, group
from gpu_ci.inputs.reader import variable
from gpu_ci_sandbox.action_step import read_commands
from gpu_ci_sandbox.fake_github.credentials import job_token
from gpu_ci_sandbox.fake_github.openapi import assert_valid_requests
from gpu_ci_sandbox.faults import answer, drop

if TYPE_CHECKING:
    from pathlib import Path

    from gpu_ci_sandbox.fake_github.rest import ServedGitHub

LABELLED = pull_request("labeled", "docs", "run-gpu-ci", changed="run-gpu-ci")
LATER = pull_request("synchronize", "docs", "run-gpu-ci")
KEY = (REPOSITORY, NUMBER)


@dataclass(kw_only=True)
class Told:
    """What a gate left: its outputs, its summary, its log, and why it failed."""

    outputs: dict[str, str]
    summary: str
    log: str
    failure: Exception | None


@pytest.fixture
def ask(
    hub: ServedGitHub,
    token: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Any:
    """`ask(event, attempt="2", token="", label="x", …)`: run a gate in a job of its own."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")

    def run(told: dict[str, Any], attempt: str = "1", token: str = token, **inputs: str) -> Told:
        files = {n: tmp_path / n for n in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        for name, path in files.items():
            path.write_text("")
            monkeypatch.setenv(name, str(path))
        given = {variable(name): value for name, value in inputs.items()}
        more = {
            "GITHUB_ACTIONS": "true",
            "GITHUB_RUN_ID": "7",
            "GITHUB_RUN_ATTEMPT": attempt,
            "GPU_CI_CHECK_RUN_ID": "9",
        }
        more |= {"GPU_CI_RUN_TOKEN": token, "INPUT_GITHUB_API_URL": hub.url}
        failure: Exception | None = None
        try:
            gate(environment(told, tmp_path, **more, **given), FakeClock())
        except (NotAllowed, BadInputs, EventUnreadable) as error:
            failure = error
        outputs, summary = (path.read_text() for path in files.values())
        return Told(
            outputs=read_commands(outputs),
            summary=summary,
            log=capsys.readouterr().out,
            failure=failure,
        )

    return run


def test_a_labelled_pull_request(ask: Any, hub: ServedGitHub) -> None:
    """It goes, and its label is used up (row 3.3)."""
    told = ask(LABELLED)
    assert told.failure is None
    assert (told.outputs["run"], told.outputs["verdict"]) == ("true", "go")
    assert told.outputs["reason"] == "#12 has the label 'run-gpu-ci', which this run uses up."
    assert hub.github.issue_labels[KEY] == ["docs"]
    assert "The GPU job may run" in told.summary
    assert_valid_requests(hub.faults.requests)


@pytest.mark.parametrize("labelled_first", [True, False])
def test_two_runs_of_one_label(labelled_first: bool, ask: Any) -> None:
    """A pull request that is opened with its label begins two runs, of which exactly one goes,
    whichever comes first; the other one is no failure, and no success of the GPU job either
    (row 3.3)."""
    opened = pull_request("opened", "docs", "run-gpu-ci")
    told = [LABELLED, opened] if labelled_first else [opened, LABELLED]
    found = [ask(each) for each in told]
    assert [each.outputs["verdict"] for each in found] == (
        ["go", "elsewhere"] if labelled_first else ["elsewhere", "go"]
    )
    assert [each.failure for each in found] == [None, None]


def test_a_label_that_an_earlier_run_took(ask: Any) -> None:
    """A push that GitHub told of before the label was off begins a run that leaves it alone."""
    assert ask(LABELLED).outputs["verdict"] == "go"
    found = ask(LATER)
    assert (found.outputs["verdict"], found.outputs["run"]) == ("elsewhere", "false")
    assert found.failure is None
    assert "::notice::Nothing to do here." in found.log
    assert "used up by another run" in found.log


def test_a_label_that_its_own_run_did_not_take(ask: Any) -> None:
    """That run was cancelled before it began, say: the next one takes it."""
    assert ask(LATER).outputs["verdict"] == "go"


def test_all_jobs_of_a_matrix(ask: Any) -> None:
    """Each leg asks for itself, and the label was meant for all of them."""
    assert [ask(LABELLED).outputs["verdict"] for _ in range(3)] == ["go", "go", "go"]


def test_the_next_attempt(ask: Any, hub: ServedGitHub) -> None:
    """A re-run of the run that used the label goes without it, with no warning."""
    for told in (LABELLED, LATER):
        again = [ask(told, attempt=str(attempt)) for attempt in (1, 2, 3)][1:]
        assert [(each.outputs["verdict"], each.failure) for each in again] == [("go", None)] * 2
        assert "::warning::" not in "".join(each.log for each in again)
    assert hub.github.issue_labels[KEY] == ["docs"]


@pytest.mark.parametrize("told", [LABELLED, LATER], ids=["its own run", "a push"])
def test_the_first_attempt_was_cancelled_before_its_gate(
    told: dict[str, Any], ask: Any, hub: ServedGitHub
) -> None:
    """The re-run takes the label off, so that the next push does not pay again (row 3.3)."""
    assert ask(told, attempt="2").outputs["verdict"] == "go"
    assert hub.github.issue_labels[KEY] == ["docs"]
    assert ask(LATER).outputs["verdict"] == "elsewhere"


def test_a_pull_request_is_closed(ask: Any, hub: ServedGitHub) -> None:
    """With the label on: nothing runs, nothing fails, the label stays, GitHub is not asked."""
    found = ask(pull_request("closed", "run-gpu-ci"))
    assert (found.outputs["run"], found.outputs["verdict"]) == ("false", "elsewhere")
    assert (found.failure, hub.faults.requests) == (None, ())


def test_the_next_push(ask: Any) -> None:
    """It asks for the label again, visibly: failed, not skipped (rows 3.2, 3.3)."""
    ask(LABELLED)
    told = ask(pull_request("synchronize", "docs"))
    assert isinstance(told.failure, NotAllowed)
    assert told.failure.exit_code == 68
    assert (told.outputs["run"], told.outputs["verdict"]) == ("false", "no")
    assert "Add the label" in str(told.failure)
    assert "The GPU job may not run" in told.summary


def test_a_label_that_stays(ask: Any, hub: ServedGitHub) -> None:
    """With keep-label nothing is asked of GitHub, and the next push goes too (row 3.3)."""
    assert ask(LABELLED, **{"keep-label": "true"}).outputs["verdict"] == "go"
    assert hub.faults.requests == ()


@pytest.mark.parametrize("forks", ["fail", "skip"])
def test_a_fork(forks: str, ask: Any, hub: ServedGitHub) -> None:
    """It fails or is left out, as asked for, without any token and without a request
    (row 1.15, pain 47)."""
    labelled = pull_request("labeled", "run-gpu-ci", changed="run-gpu-ci", source=FORK)
    wanted = {"machine-name": "box", "provider": "ec2", "aws-role": "arn:role", "aws-region": "eu"}
    told = ask(labelled, token="", forks=forks, profile="a100", **wanted)
    assert isinstance(told.failure, NotAllowed) == (forks == "fail")
    assert told.outputs["verdict"] == ("no" if forks == "fail" else "neutral")
    assert "`gh pr checkout 12`" in (str(told.failure) if told.failure else told.log)
    assert hub.faults.requests == ()
    assert {told.outputs[name] for name in wanted} == {""}


@pytest.mark.parametrize(
    "told", [DEPENDABOT_OPENS, pull_request("opened", "skip-gpu-ci")], ids=["bot", "skip"]
)
def test_what_is_left_out(told: dict[str, Any], ask: Any) -> None:
    """A notice, no failure, no run (row 3.4)."""
    found = ask(told)
    assert (found.outputs["run"], found.outputs["verdict"]) == ("false", "neutral")
    assert found.failure is None
    assert "::notice::The GPU job is left out." in found.log


def test_another_label(ask: Any, hub: ServedGitHub) -> None:
    """It neither fails nor uses the label of a run that is still to come (row 3.5)."""
    found = ask(pull_request("labeled", "run-gpu-ci", "docs", changed="docs"))
    assert (found.outputs["verdict"], found.failure) == ("elsewhere", None)
    assert hub.faults.requests == ()


def test_a_token_that_may_not(ask: Any, hub: ServedGitHub) -> None:
    """The label was given; that it cannot be removed is a warning, with the cure (row 3.6)."""
    weak = hub.github.issue(job_token(REPOSITORY, pull_requests="read"))
    told = ask(LABELLED, token=weak)
    assert (told.outputs["run"], told.failure) == ("true", None)
    assert "::warning::The label 'run-gpu-ci' could not be removed from #12" in told.log
    assert "pull-requests: write" in told.log


def test_no_token_at_all(ask: Any, hub: ServedGitHub) -> None:
    """The same, and nothing is asked."""
    told = ask(LABELLED, token="")
    assert told.outputs["run"] == "true"
    assert "::warning::" in told.log
    assert hub.faults.requests == ()


@pytest.mark.parametrize(
    "fault",
    [drop(times=None), answer(500, times=None), answer(429, {"message": "slow down"}, times=None)],
    ids=["no answer", "an error", "a limit"],
)
def test_github_is_away(fault: Any, ask: Any, hub: ServedGitHub) -> None:
    """Somebody gave the label: the run does not wait for GitHub to come back (row 3.6)."""
    hub.faults.add(fault)
    told = ask(LABELLED)
    assert (told.outputs["run"], told.failure) == ("true", None)
    assert "::warning::" in told.log


def test_a_bad_profile_uses_no_label_up(ask: Any, hub: ServedGitHub) -> None:
    """The file is read first: a typing error in it costs nobody a label."""
    told = ask(LABELLED, profile="no-such-profile")
    assert told.failure is not None
    assert "run-gpu-ci" in hub.github.issue_labels[KEY]
    assert told.outputs == {}


def test_what_the_later_jobs_are_told(ask: Any) -> None:
    """Provider, machine, role and its region, by the inputs; and the machine's own queue."""
    role = "arn:aws:iam::123456789012:role/gpu"
    told = ask(DISPATCH, provider="ec2", **{"machine-name": "box-1", "aws-role": role})
    assert told.outputs == {
        "run": "true",
        "verdict": "go",
        "reason": "It was started by hand, which takes write access.",
        "provider": "ec2",
        "machine-name": "box-1",
        "aws-role": role,
        "aws-region": "us-east-1",
        "group": "gpu-ci-machine-box-1",
    }


PROFILES = """
profiles:
  a100:
    provider: jarvislabs
    machine: A100
    machine-name: box-2
    aws-region: eu-north-1
"""


def test_what_a_profile_tells(ask: Any, tmp_path: Path) -> None:
    """Of a trusted event, from the checkout; an input that is given goes before."""
    folder = tmp_path / "checkout" / ".github"
    folder.mkdir(parents=True)
    (folder / "gpu-ci.yml").write_text(PROFILES)
    told = push() | {"GITHUB_WORKSPACE": str(folder.parent)}
    found = ask(told, profile="a100", **{"machine-name": "box-3"}).outputs
    assert (found["provider"], found["machine-name"]) == ("jarvislabs", "box-3")
    assert (found["aws-region"], found["group"]) == ("eu-north-1", "gpu-ci-machine-box-3")


def test_the_group_of_a_call() -> None:
    """A kept machine has one for all who want it; everybody else has one of their own, in each
    call of each run, also where the runner does not tell which job this is."""
    env = {"GITHUB_RUN_ID": "7", "GPU_CI_CHECK_RUN_ID": "9"}
    assert group("box", env) == group("box", {}) == "gpu-ci-machine-box"
    assert group("", env) == "gpu-ci-7-9"
    untold = {"GITHUB_RUN_ID": "7"}
    assert group("", untold).startswith("gpu-ci-7-")
    assert group("", untold) != group("", untold)


@pytest.mark.parametrize("name", ['a";id;"', "$(id)", "x\n::error::y", "| x |", "<img src=x>"])
def test_odd_names_stay_words(name: str, ask: Any) -> None:
    """In the log they are no command of the runner, in the summary no markup (row 1.16)."""
    told = ask(push(f"refs/heads/{name}"))
    assert isinstance(told.failure, NotAllowed)
    assert not [line for line in told.log.splitlines() if line.startswith("::error::y")]
    assert len(told.summary.strip().splitlines()) == 5
    assert not re.findall(r"(?<!\\)[<$`]|x \|$", told.summary)
    assert len(told.outputs["reason"].splitlines()) == 1
